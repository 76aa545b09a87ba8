"""The sources of a recipe, from captions files and shards to what batches are drawn from.

Captions are kept twice: as people wrote them, to score against, and as the recipe wants them trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evlgen.data.batches import CaptionSource, TrainingSource, VisualSource, tokenize
from evlgen.data.caption_sources import CaptionedItem, ReadSource, clean_caption, frames_of, make_item, read_sources
from evlgen.data.decoding import FrameReader
from evlgen.data.features import prepare_source
from evlgen.data.pixels import decoders_here, open_pixels
from evlgen.data.shards import FoundShards, ShardSource, count_shards, open_reader
from evlgen.data.visual import choose_visual
from evlgen.errors import UsageError
from evlgen.metrics.consensus import Floats, consensus, draw_probabilities
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.recipes.schema import Recipe


class Loader:
    """Reads what a recipe names, before anything large is loaded.

    Args:
        recipe: its data section, and the tower.
        progress: of feature caching, or of counting frames.
        stop: asked while that is done.
        retry: decode again what ran out of time before; not of a run that goes on, which must draw the same.

    Attributes:
        visual: what the frames come to training as.
        read: captioned sources to train on, and to validate on.
        found: the shards to train on, once `sources` has counted them.

    Raises:
        UsageError: a captions file, its media or shards are missing or not what they must be; features are asked for
            that cannot be cached; or captions have prompts and are to be compared with each other or with samples,
            which would need one prompt an item.
    """

    def __init__(
        self,
        recipe: Recipe,
        progress: Callable[..., None] | None,
        stop: Callable[[], bool],
        *,
        retry: bool = False,
    ) -> None:
        self.data, self.progress, self.stop, self.retry = recipe.data, progress, stop, retry
        self.visual = choose_visual(recipe)
        self._readers: dict[int, FrameReader] = {}  # by frames of a video
        self.read = read_sources(recipe.data.model_copy(update={"lower_case": False}))
        self.found: list[FoundShards] = []
        self._shards = [(s, open_reader(s, recipe.data)) for s in recipe.data.train if s.shards]
        unable = {
            "scst.samples": recipe.scst.samples,
            "data.consensus": recipe.data.consensus,
            "vocabulary.steps": recipe.vocabulary.steps,
            "vocabulary.weight": recipe.vocabulary.weight,
            "representation.steps": recipe.representation.steps,
        }
        wanted = next((name for name, value in unable.items() if value), None)
        prompted = next((source for source in self.read[0] if any(item.prompts for item in source.items)), None)
        if wanted is not None and prompted is not None:
            raise UsageError(
                f"{prompted.config.captions} has captions with prompts or questions, with which {wanted} cannot work",
                f"set {wanted} to 0",
            )

    def sources(self, model: EVLGenForConditionalGeneration) -> tuple[list[TrainingSource], list[CaptionSource]] | None:
        """Training and validation sources with their visual input; None when asked to stop.

        Raises:
            EvlgenError: too many items are broken, or the cache cannot be written.
        """
        captioned = self._captioned(model)
        if captioned is None:
            return None
        for config, reader in self._shards:
            found = count_shards(config, reader, report=self.progress, stop=self.stop)
            if found is None:
                return None
            found.check_whole(self.data.max_broken_share)
            self.found.append(found)
        in_memory, streamed = list(captioned[0]), [self._streamed(found, model) for found in self.found]
        assert len(in_memory) + len(streamed) == len(self.data.train)
        return [(streamed if s.shards else in_memory).pop(0) for s in self.data.train], captioned[1]

    def _streamed(self, found: FoundShards, model: EVLGenForConditionalGeneration) -> ShardSource:
        return ShardSource(
            found,
            model.language.encode_caption,
            self._frame_reader(model, self.data.frames_kept).submit,
            side=model.config.vision.image_size,
            lower_case=self.data.lower_case,
            max_broken_share=self.data.max_broken_share,
        )

    def _captioned(
        self, model: EVLGenForConditionalGeneration
    ) -> tuple[list[CaptionSource], list[CaptionSource]] | None:
        made: list[CaptionSource] = []
        for source in (both := [*self.read[0], *self.read[1]]):
            opened = self._open(source, model)
            if opened is None:
                return None
            usable, visual = opened
            items = self.trained_on(usable)
            drawn = source.role == "train" and self.data.consensus > 0
            made.append(
                CaptionSource(
                    source.name,
                    items,
                    visual,
                    tokenize(items, model.language.encode_caption),
                    source.config.weight,
                    source.config.ratio,
                    [item.references for item in usable],
                    self._draw_probabilities(items) if drawn else None,
                )
            )
        count = len(both) - len(self.read[1])
        return made[:count], made[count:]

    def _open(
        self, source: ReadSource, model: EVLGenForConditionalGeneration
    ) -> tuple[list[CaptionedItem], VisualSource] | None:
        if self.visual == "features":
            prepared = prepare_source(model, source, self.data, report=self.progress, stop=self.stop)
            return None if prepared is None else (prepared.items, prepared.cache)
        reader = self._frame_reader(model, frames_of(source, self.data, model.config))
        return open_pixels(source, self.data, reader, retry=self.retry, report=self.progress, stop=self.stop)

    def _frame_reader(self, model: EVLGenForConditionalGeneration, frames: int) -> FrameReader:
        if frames not in self._readers:
            side = model.config.vision.image_size
            self._readers[frames] = FrameReader(frames, side, workers=decoders_here())
        return self._readers[frames]

    def close(self) -> None:
        """End what decodes and fetches; the sources are of no use then."""
        for reader in self._readers.values():
            reader.close()
        for _, shards in self._shards:
            shards.close()

    def _draw_probabilities(self, items: Sequence[CaptionedItem]) -> list[Floats]:
        return [
            draw_probabilities(scores, self.data.consensus) for scores in consensus([item.captions for item in items])
        ]

    def trained_on(self, items: Sequence[CaptionedItem]) -> list[CaptionedItem]:
        """Items with their captions cleaned; captions of which nothing would be left stay as they are."""
        return [make_item(item.name, self._cleaned(item)) for item in items]

    def _cleaned(self, item: CaptionedItem) -> list[tuple[str, str]]:
        cleaned = [(clean_caption(c, lower_case=self.data.lower_case), prompt) for c, prompt in item.prompted]
        return [one for one in cleaned if one[0]] or item.prompted
