/* What the two sources of a vocabulary (built in, files) share while they fill one. */
#ifndef ATL_MERGE_TABLE_H
#define ATL_MERGE_TABLE_H

#include "vocabulary.h"

Status merge_table_new(MergeTable *t, int merges); /* room for so many */
void merge_table_add(MergeTable *t, Merge m);      /* replaces an earlier merge of the same pair */
/* True if the byte stands for itself in the vocabulary's texts. */
bool byte_is_printable(int byte);

#endif
