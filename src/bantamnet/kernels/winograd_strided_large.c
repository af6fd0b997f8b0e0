/* The kernels of winograd.c for convolutions of stride 2, tiles of 8 x 8. */
#define STRIDED
#define LARGE
#include "winograd.c"
