"""`--preset auto`: facts about data and machine, and the flags that are chosen from them."""

from .choosing import as_record as as_record
from .choosing import choose_preset as choose_preset
from .choosing import recorded_choices as recorded_choices
