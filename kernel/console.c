/* Text to the first serial port, by polling.
 * SPDX-License-Identifier: MIT
 *
 * Source: National Semiconductor PC16550D data sheet, register set.
 */
#include "io.h"
#include "kernel.h"

#include <stdarg.h>

#define COM1           0x3f8
#define COM_DATA       (COM1 + 0)
#define COM_INTERRUPTS (COM1 + 1)
#define COM_FIFO       (COM1 + 2)
#define COM_LINE       (COM1 + 3)
#define COM_MODEM      (COM1 + 4)
#define COM_STATUS     (COM1 + 5)
#define LINE_DIVISOR   0x80 /* the first two registers are the divisor */
#define LINE_8N1       0x03
#define STATUS_EMPTY   0x20

void console_init(void)
{
    io_out8(COM_INTERRUPTS, 0);
    io_out8(COM_LINE, LINE_DIVISOR);
    io_out8(COM_DATA, 1); /* 115200 baud */
    io_out8(COM_INTERRUPTS, 0);
    io_out8(COM_LINE, LINE_8N1);
    io_out8(COM_FIFO, 0x07);
    io_out8(COM_MODEM, 0x03);
}

static void put(char c)
{
    while (!(io_in8(COM_STATUS) & STATUS_EMPTY))
        __builtin_ia32_pause();
    io_out8(COM_DATA, (uint8_t)c);
}

void console_write(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        put(text[i]);
}

static void put_text(const char *text)
{
    while (*text)
        put(*text++);
}

static void put_hex(uintptr_t value)
{
    unsigned digits = 1;
    while (digits < 2 * sizeof(value) && value >> (4 * digits) != 0)
        digits++;
    while (digits-- > 0)
        put("0123456789abcdef"[value >> (4 * digits) & 15]);
}

static void put_decimal(uintptr_t value)
{
    char digits[24];
    unsigned used = 0;
    do
        digits[used++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    while (used > 0)
        put(digits[--used]);
}

/* What a letter asks for; `word`: behind a z. */
static void convert(char letter, bool word, va_list *arguments)
{
    if (letter == 's')
        put_text(va_arg(*arguments, const char *));
    else if (letter == 'x')
        put_hex(word ? va_arg(*arguments, size_t) : va_arg(*arguments, unsigned));
    else
        put_decimal(word ? va_arg(*arguments, size_t) : va_arg(*arguments, unsigned));
}

void console_print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        bool word = *++format == 'z';
        if (word)
            format++;
        convert(*format, word, &arguments);
    }
    va_end(arguments);
}

void console_line(void *context, const char *text)
{
    (void)context;
    console_print("# %s\n", text);
}
