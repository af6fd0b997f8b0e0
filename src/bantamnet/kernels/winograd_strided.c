/* The kernels of winograd.c for convolutions of stride 2. */
#define STRIDED
#include "winograd.c"
