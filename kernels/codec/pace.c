/* The controller of the bits' fall: see pace.h. */
#include "pace.h"

#include <math.h>

#include "try.h"

#define LOG_4          1.3862943611198906
#define SPEED_HEADROOM 3.0  /* bits_lr in terms of the mean speed that is needed */
#define LR_AFTER       0.1  /* bits_lr once the target is reached, of the one before */
#define GAIN           3.0  /* nats of price a bit of error; at equilibrium 1.39 */
#define LEAD_MAX       12.0 /* steps that the error is looked at ahead: Adam is late by 9 */
#define LEAD_PART      0.15 /* of steps_to_target, where that is less */
#define SPEED_BLEND    0.3  /* of a step's change in the error's speed */
#define HORIZON        20.0 /* the integral answers within steps_to_target / HORIZON */
#define ERROR_MAX      0.25 /* bits: no wind-up while Adam's speed is the limit */
#define LOG_PRICE_MAX  60.0
#define LR_FALL        10.0 /* bits_lr falls by e in steps_to_target / LR_FALL */
#define LR_MAX         0.5
#define ERROR_LOW      -0.1 /* bits: below it the bits loss rests */
#define LATE_MAX       0.1  /* of the fall: how far below the target the aim goes */

double seam_pace_bits(const seam_pace_config *config, uint64_t step) {
    if (step >= config->steps_to_target) {
        return config->bits_target;
    }
    const double part = (double)step / (double)config->steps_to_target;
    const double left = config->shape == SEAM_PACE_COSINE
                            ? 0.5 * (1.0 + cos(3.14159265358979323846 * part))
                            : 1.0 - part;
    return config->bits_target + (config->bits_start - config->bits_target) * left;
}

/* b*(step), and beyond its end as steep as on average until the target is reached: a mean that
 * only approaches the target would reach it late. */
static double aim(const seam_pace *pace, uint64_t step) {
    const seam_pace_config *const config = &pace->config;
    const double bits = seam_pace_bits(config, step);
    if (pace->reached || step <= config->steps_to_target) {
        return bits;
    }
    const double late = (double)(step - config->steps_to_target) / (double)config->steps_to_target;
    return bits - (config->bits_start - config->bits_target) * fmin(late, LATE_MAX);
}

static double lr_of(const seam_pace_config *config) {
    const double speed = config->logit_distance / (double)config->steps_to_target;
    return fmin(SPEED_HEADROOM * speed, LR_MAX);
}

void seam_pace_init(seam_pace *pace, const seam_pace_config *config) {
    SEAM_ASSERT(config->steps_to_target >= 1);
    *pace = (seam_pace){
        .config = *config,
        .price = 0.0, /* no gradient has been seen: the gates' first step only fills Adam */
        .bits_lr =
            fmin(SPEED_HEADROOM * config->logit_distance / (double)config->steps_to_target, LR_MAX),
    };
}

void seam_pace_judge(seam_pace *pace, uint64_t step, double mean_bits, double pull) {
    const seam_pace_config *const config = &pace->config;
    if (pace->reached) { /* slowly: the loop still has to give back what the fall needed */
        const double rest = exp(-LR_FALL / (double)config->steps_to_target);
        pace->bits_lr = fmax(pace->bits_lr * rest, LR_AFTER * lr_of(config));
    }
    pace->reached = pace->reached || mean_bits <= config->bits_target;
    const double reference = aim(pace, step + 1);
    const double error = fmin(fmax(mean_bits - reference, -ERROR_MAX), ERROR_MAX);
    if (!pace->begun) {
        const double price = isfinite(pull) && pull > 0.0 ? pull : config->price_default;
        pace->begun = true;
        pace->log_price = log(price);
        pace->error_last = error;
    } else {
        const double fall = aim(pace, step) - reference;
        const double gain_integral = GAIN * HORIZON / (double)config->steps_to_target;
        const double change = error - pace->error_last;
        const double lead = fmin(LEAD_MAX, LEAD_PART * (double)config->steps_to_target);
        const double speed_change = SPEED_BLEND * (change - pace->error_speed);
        pace->error_speed += speed_change;
        pace->log_price += LOG_4 * fall + GAIN * (change + lead * speed_change) +
                           fmin(gain_integral, GAIN) * error;
        pace->log_price = fmin(fmax(pace->log_price, -LOG_PRICE_MAX), LOG_PRICE_MAX);
        pace->error_last = error;
    }
    pace->price = exp(pace->log_price);
}

bool seam_pace_acts(const seam_pace *pace) {
    return pace->error_last >= ERROR_LOW;
}

void seam_pace_retarget(seam_pace *pace, double bits_target) {
    const double fall = pace->config.bits_target - bits_target;
    pace->config.bits_target = bits_target;
    if (pace->reached) {
        pace->log_price = fmin(fmax(pace->log_price + LOG_4 * fall, -LOG_PRICE_MAX), LOG_PRICE_MAX);
        pace->price = exp(pace->log_price);
        pace->bits_lr = lr_of(&pace->config);
    }
}
