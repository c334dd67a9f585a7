/* Ways to evaluate the UNet less often; each changes the picture. */
#ifndef ATL_FEWER_H
#define ATL_FEWER_H

typedef struct SampleFewer {
    float guided_above, guided_below; /* guidance only at noise levels σ between them; below 0: at all */
    int guide_every; /* the half without the prompt only at every such step, what it says kept in between; 0:
                        all */
    int deep_every;  /* the UNet's deep part only at every such step, its result kept in between; 0: all */
} SampleFewer;

#endif
