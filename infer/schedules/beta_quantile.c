/* The share of Beta(a, b) below x is x^a (1-x)^b / (a B(a,b)) times a continued fraction (Abramowitz & Stegun
 * 26.5.8), evaluated from the front as Lentz does; its inverse is found by halving. */
#include "beta_quantile.h"

#include <math.h>

#define FRACTION_TERMS 200
#define HALVINGS 60
#define TINY 1e-300

static double not_zero(double v)
{
    return fabs(v) < TINY ? TINY : v;
}

static double fraction(double x, double a, double b)
{
    double c = 1, d = 1 / not_zero(1 - (a + b) * x / (a + 1)), value = d;
    for (int m = 1; m <= FRACTION_TERMS; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / not_zero(1 + even * d);
        c = not_zero(1 + even / c);
        value *= c * d;
        d = 1 / not_zero(1 + odd * d);
        c = not_zero(1 + odd / c);
        value *= c * d;
        if (fabs(c * d - 1) < 1e-15)
            break;
    }
    return value;
}

/* Best below the mean; the rest is the other end's. */
static double share_below(double x, double a, double b)
{
    if (x > (a + 1) / (a + b + 2))
        return 1 - share_below(1 - x, b, a);
    const double front = tgamma(a + b) / (tgamma(a) * tgamma(b)) * pow(x, a) * pow(1 - x, b);
    return x > 0 ? front * fraction(x, a, b) / a : 0;
}

double beta_quantile(double p, double a, double b)
{
    double low = 0, high = 1;
    if (p <= 0 || p >= 1)
        return p <= 0 ? 0 : 1;
    for (int i = 0; i < HALVINGS; i++) {
        const double middle = 0.5 * (low + high);
        if (share_below(middle, a, b) < p)
            low = middle;
        else
            high = middle;
    }
    return 0.5 * (low + high);
}
