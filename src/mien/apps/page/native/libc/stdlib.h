/* What synthesis.c needs of the C library's <stdlib.h>; page.c defines it. */
#pragma once
#include <stddef.h>
void *malloc(size_t size);
void free(void *place);
