# The mutants of one C file that clang-format has formatted, for script/mutate.
#   awk -f mutants.awk FILE                prints NUMBER <tab> LINE <tab> KIND <tab> TEXT for each
#   awk -v apply=NUMBER -f mutants.awk FILE   prints the file with this one in it
# SPDX-License-Identifier: MIT
#
# Patterns are looked for in a copy of the text without comments, strings and directives, so that
# columns are the same in both. A mutant replaces the text from one place to another.

{ raw[NR] = $0 }

END {
    blank_out()
    for (line = 1; line <= NR; line++) {
        negations(line)
        comparisons(line)
        deletions(line)
    }
    if (apply != "")
        exit found_applied ? 0 : 1
}

# mask[]: raw[] with blanks where there is no code.
function blank_out(    i, j, c, pair, state, out, directive) {
    for (i = 1; i <= NR; i++) {
        out = ""
        if (state != "comment")
            directive = directive_goes_on || raw[i] ~ /^[ \t]*(#|_Static_assert)/
        directive_goes_on = directive && raw[i] ~ /\\$/
        for (j = 1; j <= length(raw[i]); j++) {
            c = substr(raw[i], j, 1)
            pair = substr(raw[i], j, 2)
            if (state == "comment") {
                if (pair == "*/") {
                    state = ""
                    j++
                    out = out " "
                }
                out = out " "
            } else if (state != "") {
                if (c == "\\") {
                    j++
                    out = out " "
                } else if (c == state)
                    state = ""
                out = out " "
            } else if (pair == "/*") {
                state = "comment"
                j++
                out = out "  "
            } else if (pair == "//") {
                break
            } else if (c == "\"" || c == "'") {
                state = c
                out = out " "
            } else
                out = out (directive ? " " : c)
        }
        mask[i] = out
    }
}

# Where the bracket that opens at (line, column) closes: close_line, close_column. 0: nowhere near.
function find_close(line, column,    depth, i, c) {
    for (i = line; i <= NR && i < line + 20; i++) {
        for (; column <= length(mask[i]); column++) {
            c = substr(mask[i], column, 1)
            if (c == "(")
                depth++
            else if (c == ")" && --depth == 0) {
                close_line = i
                close_column = column
                return 1
            }
        }
        column = 1
    }
    return 0
}

# The text from (line, column) to before (last, end), of raw[] or mask[].
function text_between(line, column, last, end, masked,    i, text, part) {
    for (i = line; i <= last; i++) {
        part = masked ? mask[i] : raw[i]
        if (i == last)
            part = substr(part, 1, end - 1)
        if (i == line)
            part = substr(part, column)
        text = text (i > line ? "\n" : "") part
    }
    return text
}

# One mutant: what lies from (line, column) to before (last, end) becomes `text`.
function mutant(kind, line, column, last, end, text,    shown, i) {
    number++
    if (apply == "") {
        shown = kind ~ /^delete/ ? raw[line] : substr(raw[line], 1, column - 1) text \
            substr(raw[last], end)
        gsub(/[ \t\n]+/, " ", shown)
        sub(/^ /, "", shown)
        printf "%d\t%d\t%s\t%s\n", number, line, kind, shown
        return
    }
    if (number != apply)
        return
    found_applied = 1
    for (i = 1; i < line; i++)
        print raw[i]
    print substr(raw[line], 1, column - 1) text substr(raw[last], end)
    for (i = last + 1; i <= NR; i++)
        print raw[i]
}

# Every condition of an if, but for those that `comparisons` turns round anyway.
function negations(line,    from, at, condition) {
    from = 1
    while (match(substr(mask[line], from), /(^|[^A-Za-z0-9_])if \(/)) {
        at = from + RSTART + RLENGTH - 2
        from = at + 1
        if (!find_close(line, at))
            continue
        condition = text_between(line, at + 1, close_line, close_column, 1)
        if (condition ~ / [=!]=[ \n]/ && condition !~ /&&|\|\|/)
            continue
        mutant("negate", line, at + 1, close_line, close_column,
            "!(" text_between(line, at + 1, close_line, close_column, 0) ")")
    }
}

# Every comparison turned round or moved by one either way.
function comparisons(line,    from, at, op, rest, width) {
    from = 1
    while (match(substr(mask[line], from), / ([=!<>]=|<|>)( |$)/)) {
        at = from + RSTART
        rest = substr(mask[line], at)
        width = substr(rest, 2, 1) == "=" ? 2 : 1
        op = substr(rest, 1, width)
        from = at + width
        if (op == "==")
            mutant("compare", line, at, line, at + 2, "!=")
        else if (op == "!=")
            mutant("compare", line, at, line, at + 2, "==")
        else {
            mutant("compare", line, at, line, at + width, width == 2 ? substr(op, 1, 1) : op "=")
            if (op == "<" || op == ">=")
                mutant("bound", line, at, line, at + width, "+ 1 " op)
            else
                mutant("bound", line, at, line, at + width, op " 1 +")
        }
    }
}

# The statement that begins with this line: its last line and what follows its semicolon, or 0.
function find_statement(line,    i, j, c, depth) {
    for (i = line; i <= NR && i < line + 6; i++) {
        for (j = 1; j <= length(mask[i]); j++) {
            c = substr(mask[i], j, 1)
            if (c == "(")
                depth++
            else if (c == ")")
                depth--
            else if (c == "{" || c == "}")
                return 0
            else if (c == ";" && depth == 0) {
                close_line = i
                close_column = j + 1
                return 1
            }
        }
    }
    return 0
}

function begins_statement(line,    i, text) {
    text = mask[line]
    if (text !~ /^[ \t]+[A-Za-z_*(+-]/ ||
        text ~ /^[ \t]+(return|if|for|while|case|default|else|static|const|break|continue|goto|do|switch)[^A-Za-z0-9_]/)
        return 0
    for (i = line - 1; i > 0; i--) {
        text = mask[i]
        sub(/[ \t]+$/, "", text)
        if (text != "")
            return text ~ /([;{}:)]|(^|[^A-Za-z0-9_])(else|do))$/
    }
    return 0
}

function kind_of(statement) {
    if (statement ~ /flush|FLUSH|invlpg|invalidat|settle|SETTLED/)
        return "flush"
    if (statement ~ /lock\(|irq_restore\(|epoch_(enter|leave)/)
        return "lock"
    if (statement ~ /COUNT\(|count_add\(|(\+\+|--);$|^(\+\+|--)| [+-]= /)
        return "count"
    if (statement ~ /memset\(|^[^ ]+ = (0|NULL|false|[A-Za-z_]*NONE);$/)
        return "zero"
    return ""
}

# Invalidations, locks, counts and zeroing left out.
function deletions(line,    statement, kind, at) {
    if (match(mask[line], / = neomm_(_lock|port_irq_save)\(/)) {
        at = RSTART + 3
        if (find_close(line, RSTART + RLENGTH - 1))
            mutant("delete lock", line, at, close_line, close_column + 1, "0")
        return
    }
    if (!begins_statement(line) || !find_statement(line))
        return
    statement = text_between(line, 1, close_line, close_column, 1)
    gsub(/[ \t\n]+/, " ", statement)
    sub(/^ /, "", statement)
    kind = kind_of(statement)
    match(raw[line], /[^ \t]/)
    if (kind != "")
        mutant("delete " kind, line, RSTART, close_line, close_column, ";")
}
