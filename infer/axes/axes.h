/* What varies over a sheet of pictures: "lora=0.4,0.7,1.0" is an axis with three places, and each place is
 * the words that the command line gets besides. So everything that can be said there can vary over a sheet.
 *
 * Three keys are no options: `lora` with numbers is the strength of all LoRAs, `replace` puts its words in
 * place of the first in the prompt, `checkpoint` names runs, their checkpoints, or files of LoRAs. */
#ifndef ATL_AXES_H
#define ATL_AXES_H

#include "words.h"

#include <stdint.h>

typedef struct AxisPlace {
    char *label; /* what the sheet calls it: "0.7", "step 250" */
    Words words; /* for the command line */
    char *value; /* of keys that are no options; or NULL */
} AxisPlace;

typedef enum AxisKind {
    AXIS_OPTION,
    AXIS_STRENGTH, /* value: the strength of all LoRAs */
    AXIS_REPLACE,  /* value: what stands in place of Axis.replaced */
    AXIS_PARTS     /* value: what comes after the prompt; "" nothing */
} AxisKind;

typedef struct Axis {
    AxisKind kind;
    char *key; /* "steps" */
    char *replaced;
    AxisPlace *places;
    int count;
} Axis;

/* "KEY=A,B,C", "KEY=A|B|C" (values that hold commas), "KEY=1..9" and "KEY=1..9+2" for whole numbers. The axis
 * is axis_free's in any case. */
Status axis_read(const char *text, Axis *out);
void axis_free(Axis *a);
/* One more place: copies of a label, and of a value or NULL. */
Status axis_add(Axis *a, const char *label, const char *value);
/* The words of the last place, for words_add. */
Words *axis_words(Axis *a);
/* All seeds as one axis. */
Status axis_of_seeds(const uint64_t *seeds, int count, Axis *out);
/* "base|part|part" as two axes of what may come after the base, each with and without. *base: mem_free. */
#define AXIS_PARTS_MAX 8
Status axes_of_parts(const char *prompt, char **base, Axis *across, Axis *down);

#endif
