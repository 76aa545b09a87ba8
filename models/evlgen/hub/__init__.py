"""Our models in other people's programs: transformers' Auto classes and pipelines.

auto_config.py is what `import evlgen` makes known to transformers when that is imported; auto_classes.py follows when a
configuration of ours is opened; stub.py is for those who open it with trust_remote_code.

    >>> import evlgen, transformers
    >>> transformers.AutoConfig.for_model("evlgen").model_type
    'evlgen'
"""
