"""The pairs of transformers 4.53.3: classes, tiny configurations, inputs, and the verdict to expect."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Case:
    """A torch class of the package and its Flax half.

    `options` are those of its configuration; under `parts` those of the two halves of a composite.
    """

    name: str  # of the torch class
    config: str
    options: dict[str, Any]
    inputs: str  # kind, see `inputs.py`
    flax: str = ""  # if not `Flax…`
    label: str = ""  # if another case has the same class
    expected: str = "same"  # `part`, `abstain`
    where: str = ""  # part of the name of the layer where they part, on either side
    cause: str = ""  # what the difference is, in words

    @property
    def key(self) -> str:
        """Name of the case."""
        return self.label or self.name


VOCABULARY = 50
TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 32, "num_labels": 3,
}  # fmt: skip
SEQ2SEQ = {
    "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "max_position_embeddings": 32, "num_labels": 3,
}  # fmt: skip
T5 = {
    "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
}  # fmt: skip
IMAGE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "image_size": 16, "patch_size": 4, "num_labels": 10,
}  # fmt: skip
CONVOLUTIONAL = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "num_labels": 10}
GPT2 = {
    "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32,
}  # fmt: skip
LLAMA = {**TEXT, "num_key_value_heads": 2}
SPEECH = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2],
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "num_codevectors_per_group": 8,
    "codevector_dim": 16, "proj_codevector_dim": 16, "feat_extract_norm": "layer",
    "do_stable_layer_norm": True, "mask_time_prob": 0.0, "layerdrop": 0.0,
}  # fmt: skip
WHISPER = {
    **SEQ2SEQ, "num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 16,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    "suppress_tokens": None, "begin_suppress_tokens": None, "classifier_proj_size": 16,
}  # fmt: skip
CLIP_TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 16, "projection_dim": 16, "eos_token_id": 49,
}  # fmt: skip
CLIP_VISION = {**IMAGE, "projection_dim": 16}

CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def _family(
    prefix: str, options: dict[str, Any], heads: tuple[str, ...], config: str = "", inputs: str = ""
) -> Iterator[Case]:
    for head in heads:
        kind = "choices" if head == "ForMultipleChoice" else inputs or "tokens"
        # Start and end of an answer; two sentences in their order or not.
        labels = {"num_labels": 2} if head in ("ForQuestionAnswering", "ForPreTraining") else {}
        if head == "ForSequenceClassification":
            kind = "tokens"
        yield Case(prefix + head, config or f"{prefix}Config", {**options, **labels}, kind)


def _text(prefix: str, *heads: str, **options: Any) -> Iterator[Case]:
    return _family(
        prefix,
        {**TEXT, **options},
        ("Model", "ForMaskedLM", *CLASSIFIERS, "ForMultipleChoice", *heads),
    )


def _decoder(prefix: str, options: dict[str, Any]) -> Iterator[Case]:
    return _family(prefix, options, ("Model", "ForCausalLM"))


def _vision(prefix: str, options: dict[str, Any]) -> Iterator[Case]:
    return _family(prefix, options, ("Model", "ForImageClassification"), inputs="images")


def _seq2seq(prefix: str, *heads: str, **options: Any) -> Iterator[Case]:
    heads = ("Model", "ForConditionalGeneration", *heads)
    return _family(prefix, {**SEQ2SEQ, **options}, heads, inputs="pairs")


def _t5(prefix: str, *heads: str, **options: Any) -> Iterator[Case]:
    yield from _family(
        prefix, {**T5, **options}, ("Model", "ForConditionalGeneration"), inputs="pairs"
    )
    yield from _family(prefix, {**T5, **options}, heads)


def _composite(name: str, config: str, parts: tuple[Any, Any], inputs: str) -> Case:
    return Case(name, config, {"parts": parts}, inputs)


@dataclass(frozen=True)
class Difference:
    """A true difference of the two halves of some cases, as the package's source shows it."""

    cases: tuple[str, ...]  # beginnings of their names
    where: str
    cause: str
    verdict: str = "part"


DIFFERENCES = (
    Difference(
        ("AlbertForMultipleChoice",),
        "classifier",
        "torch drops with classifier_dropout_prob, Flax with hidden_dropout_prob",
    ),
    Difference(
        ("BigBirdForQuestionAnswering",),
        "qa_classifier.output",
        "Flax calls the output layer without `deterministic`: no dropout",
    ),
    Difference(
        ("BigBirdModel, sparse",),
        "attention.self",
        "torch chooses random blocks in training, Flax passes no `deterministic` and does not",
    ),
    Difference(
        ("Electra",), "token_type_embeddings", "token types are 0 in torch by default, 1 in Flax"
    ),
    Difference(
        ("LongT5", "MT5Model", "MT5ForConditional", "T5Model", "T5ForConditional"),
        "EncDecAttention",
        "Flax has no dropout behind the attention to the encoder",
    ),
    Difference(
        ("MarianMT",),
        "final_logits_bias",
        "a buffer in torch, a parameter that is trained in Flax",
    ),
    Difference(
        ("RegNet",),
        "stages.0.layers.0.layer.0.normalization",
        "Flax calls these layers without `deterministic`: running statistics in training",
    ),
    Difference(
        ("RoFormerForMultipleChoice",),
        "classifier",
        "Flax drops before the classifier, the sequence summary of torch does not",
    ),
    Difference(("ResNet",), "running_var", "torch's running variance is unbiased, Flax's is not"),
    Difference(
        ("Wav2Vec2Model, layerdrop",),
        "",
        "torch drops whole layers at random in training",
        "abstain",
    ),
    Difference(
        ("Wav2Vec2", "SpeechEncoderDecoder"),
        "layers.0.attention",
        "Flax calls all layers of the encoder without `deterministic`: no dropout",
    ),
    Difference(
        ("XGLM",),
        "layers.0.self_attn",
        "Flax calls the attention without `deterministic`: no dropout",
    ),
)


def _expecting(case: Case) -> Case:
    """Return a case with the verdict that its known difference asks for."""
    for known in DIFFERENCES:
        if case.key.startswith(known.cases):
            return replace(case, expected=known.verdict, where=known.where, cause=known.cause)
    return case


_ALL = (
    *_text("Albert", "ForPreTraining", embedding_size=16),
    *_seq2seq("Bart", *CLASSIFIERS[::2]),
    Case("BartForCausalLM", "BartConfig", SEQ2SEQ, "tokens"),
    *_vision("Beit", IMAGE),
    Case(
        "BeitForMaskedImageModeling",
        "BeitConfig",
        {**IMAGE, "vocab_size": VOCABULARY, "use_mask_token": True, "use_relative_position_bias": True,
         "use_absolute_position_embeddings": True},
        "masked_images",
    ),
    *_text("Bert", "ForPreTraining", "ForNextSentencePrediction"),
    Case("BertLMHeadModel", "BertConfig", {**TEXT, "is_decoder": True}, "tokens", "FlaxBertForCausalLM"),
    *_text("BigBird", "ForPreTraining", "ForCausalLM", attention_type="original_full"),
    Case(
        "BigBirdModel",
        "BigBirdConfig",
        {**TEXT, "attention_type": "block_sparse", "block_size": 2, "num_random_blocks": 1},
        "long_tokens",
        label="BigBirdModel, sparse",
    ),
    *_seq2seq("Blenderbot"),
    *_seq2seq("BlenderbotSmall"),
    *_decoder("Bloom", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    Case("CLIPTextModel", "CLIPTextConfig", CLIP_TEXT, "tokens"),
    Case("CLIPTextModelWithProjection", "CLIPTextConfig", CLIP_TEXT, "tokens"),
    Case("CLIPVisionModel", "CLIPVisionConfig", CLIP_VISION, "images"),
    Case(
        "CLIPModel",
        "CLIPConfig",
        {"text_config": CLIP_TEXT, "vision_config": CLIP_VISION, "projection_dim": 16},
        "captions",
    ),
    *_vision("Dinov2", {key: value for key, value in IMAGE.items() if key != "intermediate_size"}),
    *_family(
        "DistilBert",
        {"vocab_size": VOCABULARY, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4,
         "max_position_embeddings": 32, "num_labels": 3},
        ("Model", "ForMaskedLM", *CLASSIFIERS, "ForMultipleChoice"),
    ),
    *_text("Electra", "ForPreTraining", "ForCausalLM", embedding_size=16),
    _composite(
        "EncoderDecoderModel",
        "EncoderDecoderConfig",
        (("BertConfig", TEXT), ("GPT2Config", {**GPT2, "add_cross_attention": True})),
        "pairs",
    ),
    *_decoder("Gemma", {**LLAMA, "head_dim": 8}),
    *_family("GPT2", GPT2, ("Model", "LMHeadModel")),
    *_decoder(
        "GPTNeo",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
         "attention_types": [[["global", "local"], 1]], "window_size": 3, "max_position_embeddings": 32},
    ),
    *_decoder("GPTJ", {**GPT2, "rotary_dim": 4}),
    *_decoder("Llama", LLAMA),
    *_t5("LongT5", local_radius=3, encoder_attention_type="local"),
    Case(
        "LongT5Model",
        "LongT5Config",
        {**T5, "local_radius": 3, "global_block_size": 4, "encoder_attention_type": "transient-global"},
        "pairs",
        label="LongT5Model, global",
    ),
    Case("MarianModel", "MarianConfig", {**SEQ2SEQ, "pad_token_id": 0}, "pairs"),
    Case("MarianMTModel", "MarianConfig", {**SEQ2SEQ, "pad_token_id": 0}, "pairs"),
    *_seq2seq("MBart", *CLASSIFIERS[::2]),
    *_decoder("Mistral", LLAMA),
    *_t5("MT5", "EncoderModel"),
    *_decoder("OPT", {**TEXT, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    *_seq2seq("Pegasus"),
    *_vision("RegNet", {**CONVOLUTIONAL, "groups_width": 4}),
    *_vision("ResNet", {**CONVOLUTIONAL, "layer_type": "basic"}),
    Case(
        "ResNetForImageClassification",
        "ResNetConfig",
        {**CONVOLUTIONAL, "layer_type": "bottleneck"},
        "images",
        label="ResNetForImageClassification, bottleneck",
    ),
    *_text("Roberta", "ForCausalLM"),
    *_text("RobertaPreLayerNorm", "ForCausalLM"),
    *_text("RoFormer", embedding_size=32),
    _composite(
        "SpeechEncoderDecoderModel",
        "SpeechEncoderDecoderConfig",
        (("Wav2Vec2Config", SPEECH), ("BartConfig", {**SEQ2SEQ, "max_position_embeddings": 128})),
        "spoken",
    ),
    *_t5("T5", "EncoderModel"),
    Case(
        "T5ForConditionalGeneration",
        "T5Config",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        "pairs",
        label="T5ForConditionalGeneration, v1.1",
    ),
    _composite(
        "VisionEncoderDecoderModel",
        "VisionEncoderDecoderConfig",
        (("ViTConfig", IMAGE), ("GPT2Config", {**GPT2, "add_cross_attention": True})),
        "described",
    ),
    Case(
        "VisionTextDualEncoderModel",
        "VisionTextDualEncoderConfig",
        {"parts": (("ViTConfig", IMAGE), ("BertConfig", TEXT)), "projection_dim": 16},
        "captions",
    ),
    *_vision("ViT", IMAGE),
    *_family("Wav2Vec2", SPEECH, ("Model", "ForCTC", "ForPreTraining"), inputs="waves"),
    Case(
        "Wav2Vec2Model", "Wav2Vec2Config", {**SPEECH, "layerdrop": 0.1}, "waves",
        label="Wav2Vec2Model, layerdrop",
    ),
    *_family("Whisper", WHISPER, ("Model", "ForConditionalGeneration"), inputs="spectra_pairs"),
    Case("WhisperForAudioClassification", "WhisperConfig", WHISPER, "spectra"),
    *_decoder(
        "XGLM",
        {"vocab_size": VOCABULARY, "d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64,
         "max_position_embeddings": 32},
    ),
    *_text("XLMRoberta", "ForCausalLM"),
)  # fmt: skip

CASES = tuple(map(_expecting, _ALL))
