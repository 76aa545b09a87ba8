"""Other programs' door to a captioner: OpenAI's chat protocol and Ollama's, over HTTP (`evlgen serve`).

Read in this order: limits.py (what a request may take), chat.py (what a request asks for), request_media.py (from data
URLs to frames, in decoding children), batching.py (one model thread, batches across requests), app.py (the addresses),
server.py (start to stop). FastAPI and uvicorn come with the extra `serve` and are imported in the last two.

    >>> from evlgen.decoding_options import DecodingOptions
    >>> from evlgen.serving.chat import parse_generate
    >>> from evlgen.serving.limits import Limits
    >>> body = {"model": "evlgen-mini", "prompt": "", "images": ["aGVsbG8="], "options": {"num_predict": 12}}
    >>> question = parse_generate(body, Limits(), DecodingOptions())
    >>> question.media, question.decoding.max_new_tokens
    ((b'hello',), 12)
"""
