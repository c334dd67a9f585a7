/* Hashes over models: what an encoding or a run was made from, to be recognised later. */
#ifndef ATL_HASHING_H
#define ATL_HASHING_H

#include "infer/weights/layerset.h"
#include "kernels/base/sha256.h"

void hash_text(Sha256 *s, const char *text); /* with its 0; NULL as "" */
/* Names, shapes, types and the first and last 64 KiB of each tensor: a model that was trained further differs
 * in every one of them, and a large one is told apart without being read whole. */
Status hash_layers(Sha256 *s, const LayerSet *set);
/* 64 hex digits and the 0. */
void hash_finish(Sha256 *s, char hex[SHA256_HEX_SIZE]);

#endif
