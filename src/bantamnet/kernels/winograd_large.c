/* The kernels of winograd.c for tiles of 8 x 8. */
#define LARGE
#include "winograd.c"
