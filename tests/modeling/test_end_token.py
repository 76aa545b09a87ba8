"""The end token of SentencePiece tokenizers (Llama, Vicuna), where a line break by itself is two tokens."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.language import FrozenLanguageModel, load_tokenizer
from evlgen.modeling.language_model import end_token
from tests.modeling.conftest import TINY_LLAMA, tiny_config

WORDS = ["▁a", "▁d", "og", "▁dog", "▁r", "un", "s", "▁run", "▁runs"]
LETTERS = "▁abdgnorsu"


def sentencepiece_like(form: str) -> Any:
    """As tokenizer.json of Llama is made: blanks are ▁, one stands in front, unknown letters become bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *LETTERS, *WORDS]
    merges = [("▁", "a"), ("▁", "d"), ("o", "g"), ("▁d", "og"), ("▁", "r"), ("u", "n"), ("▁r", "un"), ("▁run", "s")]
    core = Tokenizer(
        models.BPE(
            vocab={piece: n for n, piece in enumerate(pieces)},
            merges=merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    if form == "normalizer":
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>")


@pytest.mark.parametrize("form", ["normalizer", "metaspace"])
def test_the_token_that_ends_a_line_behind_a_word_ends_a_caption(form: str, tmp_path: Path) -> None:
    tokenizer = sentencepiece_like(form)
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("\n")) == ["▁", "<0x0A>"]
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("a dog\n")) == ["▁a", "▁dog", "<0x0A>"]
    config = tiny_config(llm={**TINY_LLAMA, "vocab_size": len(tokenizer)})
    llm = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config.language.architecture)  # type: ignore[arg-type]
    )
    language = FrozenLanguageModel(config.language, llm, tokenizer)
    newline = tokenizer.convert_tokens_to_ids("<0x0A>")
    assert language.end_token_id == newline
    assert language.encode_caption("a dog runs") == tokenizer.encode("a dog runs\n")

    model = EVLGenForConditionalGeneration(config, language).eval()
    ids = language.encode_caption("a dog runs")
    assert model.processor.batch_decode(torch.tensor([[*ids, *ids]])) == ["a dog runs"]
    features = model.encode(torch.randn(1, 1, 3, 48, 48))
    with torch.no_grad():  # a head to which nothing but a line break comes to mind
        prefix = model.prefix(model.soft_prompts(features))
        language.head_weight.zero_()
        language.head_weight[newline] = llm.model(inputs_embeds=prefix).last_hidden_state[0, -1]
    output = model.generate(features=features, num_beams=1, max_new_tokens=5)
    assert (output.token_ids(), output.texts) == ([[newline]], [""])

    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(config.language.model_copy(update={"source": str(tmp_path)}))
    assert end_token(loaded, "\n") == newline


def test_a_single_token_is_taken_as_it_is() -> None:
    """OPT's line break and SmolLM's <|im_end|>: what was so before stays so, whatever stands in front."""
    tokenizer = sentencepiece_like("normalizer")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    assert end_token(tokenizer, "<|im_end|>") == tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize(("text", "tokens"), [("og og", 2), ("", 0), ("\n\n", 3)])
def test_what_is_several_tokens_everywhere_is_refused(text: str, tokens: int) -> None:
    with pytest.raises(UsageError) as caught:
        end_token(sentencepiece_like("normalizer"), text)
    assert str(caught.value).startswith(f"language.end_text {text!r} is ")
    assert "expected one (name a special token of the tokenizer, or a line break)" in str(caught.value)


def test_answers_have_the_tokens_that_they_have_behind_the_prompt() -> None:
    tokenizer = sentencepiece_like("metaspace")
    config = tiny_config(llm={**TINY_LLAMA, "vocab_size": len(tokenizer)})
    llm = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config.language.architecture)  # type: ignore[arg-type]
    )
    language = FrozenLanguageModel(config.language, llm, tokenizer)
    for prompt, blank in (("a", " "), ("a ", ""), ("a\n", "")):
        ids = language.encode_caption("dog runs", prompt)
        whole = tokenizer.encode(f"{prompt}{blank}dog runs\n")
        assert [*ids.prompt, *ids] == whole  # type: ignore[attr-defined]
    assert len(language.encode_caption("dog " * 50, "a")) == 32
