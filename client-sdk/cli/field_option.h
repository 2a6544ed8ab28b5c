/* Which option sets a field: the core and servers refuse by the names of the API and of the config,
 * and whoever typed a command knows neither. */
#ifndef SEAM_FIELD_OPTION_H
#define SEAM_FIELD_OPTION_H

/* The option (without dashes) of the field that an error's text names, "config.codec.group: ...",
 * behind words of where it happened or not; NULL: none is named, or the text names an option. */
const char *seam_field_option(const char *text);

#endif
