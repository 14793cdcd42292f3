# How much memory a value takes.

# Bytes; an estimate for what is long or nested. Never fails because of the user's object.
cpdef Py_ssize_t sizeof(object value) except -1
