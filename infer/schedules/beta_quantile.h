/* Quantiles of the beta distribution, which the beta schedule is made of. */
#ifndef ATL_BETA_QUANTILE_H
#define ATL_BETA_QUANTILE_H

/* The x in [0,1] below which lies the share p of Beta(a, b), to about 1e-12; a, b > 0. */
double beta_quantile(double p, double a, double b);

#endif
