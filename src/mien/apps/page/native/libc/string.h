/* What synthesis.c needs of the C library's <string.h>, as WebAssembly's bulk memory instructions. */
#pragma once
#include <stddef.h>
#define memset(to, byte, size) __builtin_memset(to, byte, size)
