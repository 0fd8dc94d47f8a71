"""What a client wants, in no dialect, and whether a model can do it."""

from dataclasses import dataclass

from inference.catalogue import Model
from inference.quantization import EmbeddingType
from inference.tokenization import Truncate


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldNames:
    """What a dialect calls the fields that an error may name."""

    input: str
    dimension: str
    embedding_types: str
    max_tokens: str = "max_tokens"

    def input_at(self, index: int) -> str:
        return f"{self.input}[{index}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingsRequest:
    """`model_id` None: the model of the caller's plan. `output_dimension` None: the model's own.
    `max_tokens` None: the model's context."""

    model_id: str | None
    texts: tuple[str, ...]
    input_type: str = "search_document"
    embedding_types: tuple[EmbeddingType, ...] = ("float",)
    output_dimension: int | None = None
    allows_untrained_dimension: bool = False
    truncate: Truncate = "end"
    max_tokens: int | None = None
    names: FieldNames


class TooManyInputs(Exception):
    """More texts than the model takes in one request."""

    def __init__(self, field: str, count: int, maximum: int) -> None:
        super().__init__(count)
        self.field = field
        self.count = count
        self.maximum = maximum


class TooManyCharacters(Exception):
    """A text has more characters than the model takes."""

    def __init__(self, field: str, characters: int, maximum: int) -> None:
        super().__init__(characters)
        self.field = field
        self.characters = characters
        self.maximum = maximum


class TooManyTokens(Exception):
    """The texts together have more tokens than a request may have."""

    def __init__(self, field: str, tokens: int, maximum: int) -> None:
        super().__init__(tokens)
        self.field = field
        self.tokens = tokens
        self.maximum = maximum


class InputTooLong(Exception):
    """A text has more tokens than it may have, and must not be cut."""

    def __init__(self, field: str, tokens: int, maximum: int) -> None:
        super().__init__(tokens)
        self.field = field
        self.tokens = tokens
        self.maximum = maximum


class MaxTokensTooLow(Exception):
    """So few tokens leave nothing of a text beside the prompt and the special tokens."""

    def __init__(self, field: str, minimum: int) -> None:
        super().__init__(minimum)
        self.field = field
        self.minimum = minimum


class DimensionNotOffered(Exception):
    """The model was not trained for vectors of that length, or has none as long."""

    def __init__(self, field: str, dimension: int, model: Model) -> None:
        super().__init__(dimension)
        self.field = field
        self.dimension = dimension
        self.model = model


class TypeNotOffered(Exception):
    """The model has no vectors of that type at that length: no ranges, or no whole bytes."""

    def __init__(self, field: str, embedding_type: str, dimension: int, model: Model) -> None:
        super().__init__(embedding_type)
        self.field = field
        self.embedding_type = embedding_type
        self.dimension = dimension
        self.model = model


def check_texts(model: Model, request: EmbeddingsRequest) -> None:
    """Raise TooManyInputs or TooManyCharacters where the texts are more than the model takes."""
    names, texts = request.names, request.texts
    if len(texts) > model.max_inputs:
        raise TooManyInputs(names.input, len(texts), model.max_inputs)
    for index, text in enumerate(texts):
        if len(text) > model.max_input_characters:
            place = names.input_at(index)
            raise TooManyCharacters(place, len(text), model.max_input_characters)


def choose_dimension(model: Model, request: EmbeddingsRequest) -> int:
    """The length of the vectors to answer with. Raises DimensionNotOffered."""
    wanted = request.output_dimension
    if wanted is None:
        return model.default_output_dimension
    is_offered = wanted in model.output_dimensions
    if not is_offered and not (request.allows_untrained_dimension and wanted <= model.dimensions):
        raise DimensionNotOffered(request.names.dimension, wanted, model)
    return wanted
