#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[STATUS_MESSAGE_SIZE];
static _Thread_local bool memory;

/* The new text is formatted aside first: its arguments may point into the message that it replaces. */
static void keep(const char *format, va_list args)
{
    char text[STATUS_MESSAGE_SIZE];
    vsnprintf(text, sizeof text, format, args);
    memcpy(message, text, sizeof message);
    memory = false;
}

Status status_memory(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    keep(format, args);
    va_end(args);
    memory = true;
    return STATUS_FAILED;
}

bool status_is_memory(void)
{
    return memory;
}

Status status_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    keep(format, args);
    va_end(args);
    return STATUS_FAILED;
}

Status status_refuse(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    keep(format, args);
    va_end(args);
    return STATUS_REFUSED;
}

Status status_interrupted(void)
{
    snprintf(message, sizeof message, "interrupted");
    memory = false;
    return STATUS_INTERRUPTED;
}

Status status_in(Status s, const char *format, ...)
{
    if (s == STATUS_OK)
        return s;
    char text[STATUS_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof text - 3) {
        const size_t room = sizeof text - (size_t)n - 3, length = strnlen(message, room);
        memcpy(text + n, ": ", 2);
        memcpy(text + n + 2, message, length);
        text[(size_t)n + 2 + length] = 0;
    }
    memcpy(message, text, sizeof message);
    return s;
}

const char *status_message(void)
{
    return message;
}

KeptStatus status_keep(Status s)
{
    KeptStatus kept = {.status = s, .memory = memory};
    memcpy(kept.message, message, sizeof message);
    return kept;
}

Status status_again(const KeptStatus *kept)
{
    if (kept->status == STATUS_OK)
        return STATUS_OK;
    memcpy(message, kept->message, sizeof message);
    memory = kept->memory;
    return kept->status;
}
