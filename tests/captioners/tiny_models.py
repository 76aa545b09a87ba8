"""Folders of tiny random models of transformers' own classes, each with a processor that is made here.

The tokenizer has a token for every byte, so that prompts and times can be read back from the tokens.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

SPECIAL = ("<pad>", "<s>", "</s>", "<image>", "<video>", "<img>", "</img>", "<|vision_start|>", "<|vision_end|>")
SPECIAL_MORE = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<|im_start|>")
CHAT = (
    "{% for m in messages %}{{ m['role'] }}:{% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% elif c['type'] == 'image' %}{image}{% else %}{video}{% endif %}"
    "{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "initializer_range": 0.2,
}
SQUARE = {"height": 28, "width": 28}


def tokenizer(**extra: str) -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate([*SPECIAL, *SPECIAL_MORE, *alphabet])}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if extra.pop("begins", ""):
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    if extra.pop("encloses", ""):
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"} | extra
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, additional_special_tokens=[*SPECIAL[3:], *SPECIAL_MORE], **named
    )


def ids(**names: str) -> dict[str, int]:
    words = [*SPECIAL, *SPECIAL_MORE]
    return {key: words.index(token) for key, token in names.items()}


WORDS = len(SPECIAL) + len(SPECIAL_MORE) + 256
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT = {**LANGUAGE, **ENDS, "vocab_size": WORDS}


def chat(image: str = "<image>", video: str = "<video>") -> str:
    return CHAT.replace("{image}", image).replace("{video}", video)


def saved(folder: Path, model: Any, processor: Any) -> Path:
    model.generation_config.update(**ENDS)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nA tiny random model.\n")
    return folder


def git(folder: Path) -> Path:
    config = transformers.GitConfig(
        vision_config=VISION, **{**TEXT, "max_position_embeddings": 64}, num_image_with_embedding=3
    )  # fmt: skip
    pictures = transformers.CLIPImageProcessor(size=SQUARE, crop_size=SQUARE)
    words = tokenizer(cls_token="<s>", sep_token="</s>", encloses="yes")
    return saved(folder, transformers.GitForCausalLM(config), transformers.GitProcessor(pictures, words))


def git_of_pictures(folder: Path) -> Path:
    """Without embeddings for the frames of a video."""
    config = transformers.GitConfig(vision_config=VISION, **{**TEXT, "max_position_embeddings": 64})
    pictures = transformers.CLIPImageProcessor(size=SQUARE, crop_size=SQUARE)
    words = tokenizer(cls_token="<s>", sep_token="</s>", encloses="yes")
    return saved(folder, transformers.GitForCausalLM(config), transformers.GitProcessor(pictures, words))


def blip(folder: Path) -> Path:
    config = transformers.BlipConfig(
        text_config={**TEXT, "encoder_hidden_size": 32, "sep_token_id": 2, "projection_dim": 16},
        vision_config={**VISION, "projection_dim": 16}, projection_dim=16,
    )  # fmt: skip
    pictures = transformers.BlipImageProcessor(size=SQUARE)
    words = tokenizer(encloses="yes")
    return saved(folder, transformers.BlipForConditionalGeneration(config), transformers.BlipProcessor(pictures, words))


QFORMER = {
    "vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "encoder_hidden_size": 32, "cross_attention_frequency": 1, "initializer_range": 0.2,
}  # fmt: skip
OPT = {
    **ENDS, "model_type": "opt", "vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 48,
    "num_attention_heads": 4, "word_embed_proj_dim": 32, "max_position_embeddings": 512, "init_std": 0.2,
}  # fmt: skip


def blip_2(folder: Path) -> Path:
    config = transformers.Blip2Config(
        vision_config=VISION, qformer_config=QFORMER, text_config=OPT, num_query_tokens=4,
        **ids(image_token_index="<image>"),
    )  # fmt: skip
    pictures = transformers.BlipImageProcessor(size=SQUARE)
    processor = transformers.Blip2Processor(pictures, tokenizer(begins="yes"), num_query_tokens=4)
    return saved(folder, transformers.Blip2ForConditionalGeneration(config), processor)


def blip_2_t5(folder: Path) -> Path:
    """With a language model that encodes the prompt and decodes the caption."""
    text = {
        "model_type": "t5", "vocab_size": WORDS, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0, "initializer_factor": 2.0,
    }  # fmt: skip
    config = transformers.Blip2Config(
        vision_config=VISION, qformer_config=QFORMER, text_config=text, num_query_tokens=4,
        **ids(image_token_index="<image>"),
    )  # fmt: skip
    pictures = transformers.BlipImageProcessor(size=SQUARE)
    processor = transformers.Blip2Processor(pictures, tokenizer(begins="yes"), num_query_tokens=4)
    return saved(folder, transformers.Blip2ForConditionalGeneration(config), processor)


def florence2(folder: Path) -> Path:
    """With a language token that BART-like decoders are forced to begin with."""
    config = transformers.Florence2Config(
        vision_config={
            "depths": [1, 1], "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1],
            "patch_prenorm": [False, True], "embed_dim": [16, 32], "num_heads": [2, 4], "num_groups": [2, 4],
            "window_size": 4, "projection_dim": 32, "max_temporal_embeddings": 4, "max_position_embeddings": 8,
            "initializer_range": 0.2,
        },
        text_config={
            "model_type": "bart", "vocab_size": WORDS, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
            "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
            "max_position_embeddings": 512, "init_std": 0.2, **ENDS, "decoder_start_token_id": 2,
            "forced_bos_token_id": 1,
        },
        **ids(image_token_id="<image>"), is_encoder_decoder=True,
    )  # fmt: skip
    pictures = transformers.CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    pictures.image_seq_length = 17
    words = tokenizer(image_token="<image>")
    model = transformers.Florence2ForConditionalGeneration(config)
    model.generation_config.update(decoder_start_token_id=2, forced_bos_token_id=1)
    return saved(folder, model, transformers.Florence2Processor(pictures, words))


def instructblip(folder: Path) -> Path:
    config = transformers.InstructBlipConfig(
        vision_config=VISION, qformer_config=QFORMER, text_config=OPT, num_query_tokens=4,
        **ids(image_token_index="<image>"),
    )  # fmt: skip
    processor = transformers.InstructBlipProcessor(
        transformers.BlipImageProcessor(size=SQUARE), tokenizer(begins="yes"), tokenizer(begins="yes"),
        num_query_tokens=4,
    )  # fmt: skip
    return saved(folder, transformers.InstructBlipForConditionalGeneration(config), processor)


def instructblipvideo(folder: Path) -> Path:
    config = transformers.InstructBlipVideoConfig(
        vision_config=VISION, qformer_config=QFORMER, text_config=OPT, num_query_tokens=4,
        **ids(video_token_index="<video>"),
    )  # fmt: skip
    processor = transformers.InstructBlipVideoProcessor(
        transformers.InstructBlipVideoVideoProcessor(size=SQUARE),
        tokenizer(begins="yes"), tokenizer(begins="yes"), num_query_tokens=4,
    )  # fmt: skip
    return saved(folder, transformers.InstructBlipVideoForConditionalGeneration(config), processor)


def llava_next_video(folder: Path) -> Path:
    config = transformers.LlavaNextVideoConfig(
        vision_config={"model_type": "clip_vision_model", **VISION, "image_size": 56, "projection_dim": 16},
        text_config={"model_type": "llama", **TEXT}, image_grid_pinpoints=[[56, 56]],
        vision_feature_layer=-1, **ids(image_token_index="<image>", video_token_index="<video>"),
    )  # fmt: skip
    size = {"height": 56, "width": 56}
    processor = transformers.LlavaNextVideoProcessor(
        transformers.LlavaNextVideoVideoProcessor(size=size, crop_size=size),
        transformers.LlavaNextImageProcessor(size={"shortest_edge": 56}, crop_size=size),
        tokenizer(begins="yes"), chat(), patch_size=14, vision_feature_select_strategy="default",
    )  # fmt: skip
    return saved(folder, transformers.LlavaNextVideoForConditionalGeneration(config), processor)


def video_llava(folder: Path) -> Path:
    vision = {"model_type": "clip_vision_model", **VISION, "projection_dim": 16}
    config = transformers.VideoLlavaConfig(
        vision_config=vision, text_config={"model_type": "llama", **TEXT}, vision_feature_layer=-1,
        image_seq_length=4, video_seq_length=40, **ids(image_token_index="<image>", video_token_index="<video>"),
    )  # fmt: skip
    processor = transformers.VideoLlavaProcessor(
        transformers.VideoLlavaImageProcessor(size={"shortest_edge": 28}, crop_size=SQUARE),
        transformers.VideoLlavaVideoProcessor(size=SQUARE, crop_size=SQUARE),
        tokenizer(begins="yes"), patch_size=14, chat_template=chat(),
    )  # fmt: skip
    return saved(folder, transformers.VideoLlavaForConditionalGeneration(config), processor)


def llava_onevision(folder: Path) -> Path:
    config = transformers.LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", **VISION}, vision_feature_layer=-1,
        text_config={"model_type": "qwen2", **TEXT}, image_grid_pinpoints=[[28, 28]],
        **ids(image_token_index="<image>", video_token_index="<video>"),
    )  # fmt: skip
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=SQUARE),
        tokenizer(), transformers.LlavaOnevisionVideoProcessor(size=SQUARE), num_image_tokens=4,
        vision_feature_select_strategy="full", chat_template=chat(),
    )  # fmt: skip
    return saved(folder, transformers.LlavaOnevisionForConditionalGeneration(config), processor)


ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
QWEN_PIXELS = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 64}
MARKS = ids(
    image_token_id="<image>", video_token_id="<video>", vision_start_token_id="<|vision_start|>",
    vision_end_token_id="<|vision_end|>",
)  # fmt: skip
QWEN_TOKENS = {"image_token": "<image>", "video_token": "<video>"}


def qwen_tokenizer() -> Any:
    return tokenizer(**QWEN_TOKENS)


def qwen2_5_vl(folder: Path) -> Path:
    config = transformers.Qwen2_5_VLConfig(
        text_config={**TEXT, "rope_parameters": ROPE},
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32,
            "fullatt_block_indexes": [1], "window_size": 56, "initializer_range": 0.2,
        },
        **MARKS,
    )  # fmt: skip
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(size=QWEN_PIXELS), qwen_tokenizer(),
        transformers.Qwen2VLVideoProcessor(size=QWEN_PIXELS),
        chat_template=chat("<|vision_start|><image><|vision_end|>", "<|vision_start|><video><|vision_end|>"),
    )  # fmt: skip
    return saved(folder, transformers.Qwen2_5_VLForConditionalGeneration(config), processor)


def qwen3_vl(folder: Path) -> Path:
    config = transformers.Qwen3VLConfig(
        text_config={**TEXT, "head_dim": 8, "rope_parameters": ROPE},
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32,
            "deepstack_visual_indexes": [0], "num_position_embeddings": 16, "initializer_range": 0.2,
        },
        **MARKS,
    )  # fmt: skip
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 64}
    processor = transformers.Qwen3VLProcessor(
        transformers.Qwen2VLImageProcessor(size=pixels, patch_size=16), qwen_tokenizer(),
        transformers.Qwen3VLVideoProcessor(size=pixels),
        chat_template=chat("<|vision_start|><image><|vision_end|>", "<|vision_start|><video><|vision_end|>"),
    )  # fmt: skip
    return saved(folder, transformers.Qwen3VLForConditionalGeneration(config), processor)


def smolvlm(folder: Path) -> Path:
    config = transformers.SmolVLMConfig(
        vision_config=VISION, text_config={"model_type": "llama", **TEXT}, scale_factor=2, pad_token_id=0,
        **ids(image_token_id="<image>"),
    )  # fmt: skip
    edge = {"longest_edge": 28}
    processor = transformers.SmolVLMProcessor(
        transformers.SmolVLMImageProcessor(size=edge, max_image_size=edge),
        tokenizer(), transformers.SmolVLMVideoProcessor(
            size=edge, max_image_size=edge, video_sampling={"max_frames": 64, "fps": 1, "video_size": edge}
        ),
        image_seq_len=1, chat_template=chat(),
    )  # fmt: skip
    return saved(folder, transformers.SmolVLMForConditionalGeneration(config), processor)


def internvl(folder: Path) -> Path:
    config = transformers.InternVLConfig(
        vision_config={**VISION, "image_size": [28, 28], "patch_size": [14, 14]},
        text_config={"model_type": "qwen2", **TEXT}, image_seq_length=1, downsample_ratio=0.5,
        **ids(image_token_id="<image>"),
    )  # fmt: skip
    words = tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<image>", video_token="<video>"
    )
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size=SQUARE), words,
        transformers.InternVLVideoProcessor(size=SQUARE), image_seq_length=1, chat_template=chat(),
    )  # fmt: skip
    return saved(folder, transformers.InternVLForConditionalGeneration(config), processor)


def video_llama_3(folder: Path) -> Path:
    config = transformers.VideoLlama3Config(
        text_config={"model_type": "qwen2", **TEXT},
        vision_config={
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "patch_size": 14, "initializer_range": 0.2,
        },
        **ids(image_token_id="<image>", video_token_id="<video>"),
    )  # fmt: skip
    processor = transformers.VideoLlama3Processor(
        transformers.VideoLlama3ImageProcessor(size=QWEN_PIXELS), qwen_tokenizer(),
        transformers.VideoLlama3VideoProcessor(size=QWEN_PIXELS), chat_template=chat(),
    )  # fmt: skip
    return saved(folder, transformers.VideoLlama3ForConditionalGeneration(config), processor)


def idefics3(folder: Path) -> Path:
    """A model that chats and has no video processor."""
    config = transformers.Idefics3Config(
        vision_config=VISION, text_config={"model_type": "llama", **TEXT}, scale_factor=2, pad_token_id=0,
        **ids(image_token_id="<image>"),
    )  # fmt: skip
    edge = {"longest_edge": 28}
    processor = transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessor(size=edge, max_image_size=edge), tokenizer(), image_seq_len=1,
        chat_template=chat(),
    )  # fmt: skip
    return saved(folder, transformers.Idefics3ForConditionalGeneration(config), processor)


MAKERS: dict[str, Callable[[Path], Path]] = {
    maker.__name__: maker
    for maker in (
        git, git_of_pictures, blip, blip_2, blip_2_t5, florence2, instructblip, instructblipvideo, llava_next_video,
        video_llava, llava_onevision, qwen2_5_vl, qwen3_vl, smolvlm, internvl, video_llama_3, idefics3,
    )
}  # fmt: skip


def make(name: str, folder: Path) -> Path:
    """A random model of a class in a folder; the same weights every time."""
    torch.manual_seed(0)
    return MAKERS[name](folder)
