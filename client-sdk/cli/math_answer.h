/* Answers of MATH: the content of the last \boxed{} of a text, and whether two of them are the same
 * answer written otherwise.
 *
 * The rules are those of the data set's own scorer (Hendrycks et al. 2021, arXiv:2103.03874): they
 * take away what does not change a value (spaces, \left, \!, degree, dollar and percent signs, a
 * unit at the end, "x=" before it) and write what is left in one way (\dfrac and \frac12 as
 * \frac{1}{2}, 1/2 and 0.5 too, \sqrt3 as \sqrt{3}, .5 as 0.5).  No algebra: x+1 is not 1+x. */
#ifndef SEAM_MATH_ANSWER_H
#define SEAM_MATH_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

/* Longer answers are the same only byte for byte. */
#define SEAM_MATH_ANSWER_BYTES_MAX 512

/* The content of the last \boxed{...} or \fbox{...}, braces balanced, or what follows "\boxed " up
 * to a dollar sign.  false: there is none. */
bool seam_math_boxed(const char **ret_content, size_t *ret_bytes, const char *text);
bool seam_math_is_same(const char *a, size_t a_bytes, const char *b, size_t b_bytes);

#endif
