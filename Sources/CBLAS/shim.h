// OpenBLAS and LAPACKE as one Clang module. The declarations come from the system's headers.
#ifndef BATCHLOSS_CBLAS_SHIM_H
#define BATCHLOSS_CBLAS_SHIM_H

#include <cblas.h>
#include <lapacke.h>

// `lapack_int` is a macro, which Swift does not import.
typedef lapack_int batchloss_lapack_int;

#endif
