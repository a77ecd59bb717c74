/* Text without a C library.
 * SPDX-License-Identifier: MIT */
#include "format.h"

#include "bits.h"

struct text {
    char *to;
    size_t size, used;
};

/* One conversion, between its % and its letter. */
struct spec {
    bool left, zero, prefix;
    int width, precision; /* precision -1: none */
    unsigned longs;       /* 0 int, 1 long, 2 long long */
    bool size;
};

static void put(struct text *text, char c)
{
    if (text->used + 1 < text->size)
        text->to[text->used++] = c;
}

static void put_fill(struct text *text, char c, size_t count)
{
    while (count-- > 0)
        put(text, c);
}

/* Zeros go between the first `sign` bytes of the piece and the rest. */
static void put_padded(struct text *text, const char *piece, size_t length, size_t sign,
                       const struct spec *spec)
{
    size_t width = spec->width > 0 ? (size_t)spec->width : 0;
    size_t fill = width > length ? width - length : 0;
    bool zero = spec->zero && !spec->left;
    if (!spec->left && !zero)
        put_fill(text, ' ', fill);
    for (size_t i = 0; i < length; i++) {
        if (i == sign && zero)
            put_fill(text, '0', fill);
        put(text, piece[i]);
    }
    if (spec->left)
        put_fill(text, ' ', fill);
}

static void put_number(struct text *text, uint64_t value, bool negative, unsigned base,
                       const struct spec *spec)
{
    char digits[24];
    size_t at = sizeof(digits);
    do {
        uint32_t digit;
        value = neomm__divide(value, base, &digit);
        digits[--at] = "0123456789abcdef"[digit];
    } while (value != 0);
    size_t first = at;
    if (spec->prefix && base == 16) {
        digits[--at] = 'x';
        digits[--at] = '0';
    }
    if (negative)
        digits[--at] = '-';
    put_padded(text, digits + at, sizeof(digits) - at, first - at, spec);
}

static void put_string(struct text *text, const char *string, struct spec *spec)
{
    size_t length = 0;
    if (!string)
        string = "(null)";
    while ((spec->precision < 0 || length < (size_t)spec->precision) && string[length])
        length++;
    spec->zero = false;
    put_padded(text, string, length, 0, spec);
}

/* Reads a number or a `*`; the format after it comes back. */
static const char *parse_count(const char *format, int *count, va_list *arguments)
{
    if (*format == '*') {
        *count = va_arg(*arguments, int);
        return format + 1;
    }
    for (*count = 0; *format >= '0' && *format <= '9'; format++)
        *count = *count * 10 + (*format - '0');
    return format;
}

static const char *parse_spec(const char *format, struct spec *spec, va_list *arguments)
{
    for (;; format++) {
        if (*format == '-')
            spec->left = true;
        else if (*format == '0')
            spec->zero = true;
        else if (*format == '#')
            spec->prefix = true;
        else
            break;
    }
    format = parse_count(format, &spec->width, arguments);
    if (spec->width < 0) {
        spec->left = true;
        spec->width = -spec->width;
    }
    if (*format == '.')
        format = parse_count(format + 1, &spec->precision, arguments);
    for (; *format == 'l'; format++)
        spec->longs++;
    if (*format == 'z') {
        spec->size = true;
        format++;
    }
    return format;
}

static uint64_t unsigned_argument(const struct spec *spec, va_list *arguments)
{
    if (spec->size)
        return va_arg(*arguments, size_t);
    if (spec->longs == 0)
        return va_arg(*arguments, unsigned);
    if (spec->longs == 1)
        return va_arg(*arguments, unsigned long);
    return va_arg(*arguments, unsigned long long);
}

static int64_t signed_argument(const struct spec *spec, va_list *arguments)
{
    if (spec->longs == 0)
        return va_arg(*arguments, int);
    if (spec->longs == 1)
        return va_arg(*arguments, long);
    return va_arg(*arguments, long long);
}

static void convert(struct text *text, char letter, struct spec *spec, va_list *arguments)
{
    char c;
    int64_t number;
    switch (letter) {
    case 's':
        put_string(text, va_arg(*arguments, const char *), spec);
        break;
    case 'c':
        c = (char)va_arg(*arguments, int);
        spec->zero = false;
        put_padded(text, &c, 1, 0, spec);
        break;
    case 'd':
        number = signed_argument(spec, arguments);
        put_number(text, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, number < 0, 10,
                   spec);
        break;
    case 'u':
        put_number(text, unsigned_argument(spec, arguments), false, 10, spec);
        break;
    case 'p':
        spec->prefix = true;
        put_number(text, (uintptr_t)va_arg(*arguments, void *), false, 16, spec);
        break;
    case 'x':
        put_number(text, unsigned_argument(spec, arguments), false, 16, spec);
        break;
    default:
        put(text, letter);
    }
}

size_t neomm__vformat(char *to, size_t size, const char *format, va_list arguments)
{
    struct text text = {to, size, 0};
    va_list rest;
    if (size == 0)
        return 0;
    va_copy(rest, arguments);
    while (*format) {
        if (*format != '%') {
            put(&text, *format++);
            continue;
        }
        struct spec spec = {.precision = -1};
        format = parse_spec(format + 1, &spec, &rest);
        if (*format)
            convert(&text, *format++, &spec, &rest);
    }
    va_end(rest);
    to[text.used] = '\0';
    return text.used;
}

size_t neomm__format(char *to, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t length = neomm__vformat(to, size, format, arguments);
    va_end(arguments);
    return length;
}
