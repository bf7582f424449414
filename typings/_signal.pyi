# The C module behind `signal`: the same names, with plain numbers where `signal` has enums.
# The gate uses it because importing `signal` costs six milliseconds; typeshed does not list it.
from signal import *
