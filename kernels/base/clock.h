/* The clock that durations are taken from. */
#ifndef ATL_CLOCK_H
#define ATL_CLOCK_H

/* Seconds since some moment in the past; it never goes back. */
double seconds_now(void);

#endif
