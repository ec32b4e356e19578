"""Types and ranges of what a correction holds."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, FailFast, Field

MAX_CLUSTER_NUMBER = (1 << 16) - 1  # what the page's labels can hold

ClusterNumber = Annotated[int, Field(ge=0, le=MAX_CLUSTER_NUMBER)]
Row = Annotated[int, Field(ge=0)]
Rows = Annotated[list[Row], Field(min_length=1), FailFast()]


class Form(BaseModel):
    """A JSON object with the declared fields and no others, each of exactly the declared type."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
