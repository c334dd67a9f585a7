/* What stands between a foreign HDF5 file and HDF5's library, which crashes or hangs on some damaged ones:
 * old forms of the format, h5py's default among them, have no check sums, and the library believes lengths
 * and offsets that it finds.
 *
 * So before the library sees a file, everything in it that the library will look at for us is walked here:
 * superblock, the root group, /images, /captions, /masks and /cache and what lies in them, with every
 * address, length, type and heap. What is damaged is refused, and so are forms of HDF5 that neither Atelier
 * nor h5py with ordinary arguments writes (filters, external and virtual storage, dense groups, compound
 * types, …): each refusal says which and where. What carries check sums of its own (indices of chunks in the
 * new form) is left to the library. HDF5's names for things are those of the "HDF5 File Format Specification,
 * version 3.0". */
#ifndef ATL_H5_CHECK_H
#define ATL_H5_CHECK_H

#include "kernels/base/status.h"

Status h5_check(const char *path);

#endif
