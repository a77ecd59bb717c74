/* Text without a C library: the printf conversions the library uses.
 * SPDX-License-Identifier: MIT
 *
 * %s %c %d %u %x %p %%, with `l`, `ll` and `z`, with `#` for x (0x0 for 0), a width (also `*`),
 * `0` and `-`, and a precision for %s (also `.*`). Anything else is a mistake the compiler's format
 * check does not see, and prints as itself.
 */
#ifndef NEOMM_BASE_FORMAT_H
#define NEOMM_BASE_FORMAT_H

#include <neomm/types.h>

#include <stdarg.h>

/* The longest line of a log message or a finding, with its NUL. */
#define NEOMM__LINE_MAX 256

/* Writes at most size - 1 bytes and a NUL; returns the bytes written, without the NUL. */
size_t neomm__vformat(char *to, size_t size, const char *format, va_list arguments);
size_t neomm__format(char *to, size_t size, const char *format, ...) NEOMM_PRINTF(3, 4);

#endif
