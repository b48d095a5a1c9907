/* Reads the state, plays its scripts and faults, and keeps the log; see state.h. */
#include "state.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_COUNTS 512
#define LOOK_AGAIN_US 2000
#define HANGS (-1) /* in the log */

atomic_int opened;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    char of[96];
    long count;
} counts[MAX_COUNTS];
static double opened_at_ms;

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

void fake_forget(void) {
    pthread_mutex_lock(&lock);
    memset(counts, 0, sizeof counts);
    opened_at_ms = now_ms();
    opened = 0;
    pthread_mutex_unlock(&lock);
}

void open_library(void) {
    if (opened++ == 0) {
        pthread_mutex_lock(&lock);
        opened_at_ms = now_ms();
        pthread_mutex_unlock(&lock);
    }
}

/* ---- the file */

void read_state(State *state) {
    const char *path = getenv("FAKE_DRIVER");
    FILE *file = path ? fopen(path, "r") : NULL;
    char text[400];
    state->count = 0;
    while (file && state->count < MAX_LINES && fgets(text, sizeof text, file)) {
        Line *line = &state->lines[state->count];
        line->value[0] = '\0';
        if (sscanf(text, "%31s %63s %255[^\n]", line->subject, line->key, line->value) >= 2)
            state->count++;
    }
    if (file)
        fclose(file);
}

bool has_subject(const State *state, const char *subject) {
    for (int i = 0; i < state->count; i++)
        if (!strcmp(state->lines[i].subject, subject))
            return true;
    return false;
}

const char *fact(const State *state, const char *subject, const char *key) {
    for (int i = state->count - 1; i >= 0; i--) {
        const Line *line = &state->lines[i];
        if (!strcmp(line->subject, subject) && !strcmp(line->key, key))
            return line->value;
    }
    return NULL;
}

/* ---- numbers over time */

static double at_step(const char *text, long step) {
    double value = 0;
    char *end;
    for (; step > 0; step--, text = end) {
        double next = strtod(text, &end);
        if (end == text)
            break; /* the last one stays */
        value = next;
    }
    return value;
}

static double on_ramp(const char *text, double ms) {
    double from_ms = 0, from = 0, to_ms, to;
    int length;
    bool is_first = true;
    while (sscanf(text, "%lf %lf%n", &to_ms, &to, &length) == 2) {
        if (ms < to_ms)
            return is_first ? to : from + (to - from) * (ms - from_ms) / (to_ms - from_ms);
        from_ms = to_ms;
        from = to;
        is_first = false;
        text += length;
    }
    return from;
}

double number(Call *call, const char *key, double otherwise, int not_supported) {
    const char *value = fact(&call->state, call->device, key);
    if (!value)
        return otherwise;
    if (!strcmp(value, "n/a"))
        call->code = not_supported;
    if (!strncmp(value, "steps ", 6))
        return at_step(value + 6, call->number);
    if (!strncmp(value, "ramp ", 5))
        return on_ramp(value + 5, now_ms() - opened_at_ms);
    return strtod(value, NULL);
}

/* ---- calls */

static long count_call(const char *function, const char *device) {
    char of[sizeof counts[0].of];
    long count = 0;
    snprintf(of, sizeof of, "%s %s", function, device);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_COUNTS && !count; i++) {
        if (!counts[i].of[0])
            strcpy(counts[i].of, of);
        if (!strcmp(counts[i].of, of))
            count = ++counts[i].count;
    }
    pthread_mutex_unlock(&lock);
    return count;
}

typedef struct {
    char kind[8];
    long first, second, third; /* -1 where not given */
} Fault;

/* The next fault of this call from line *index on. */
static bool next_fault(const Call *call, int *index, Fault *fault) {
    while (*index < call->state.count) {
        const Line *line = &call->state.lines[(*index)++];
        char device[NAME_SIZE];
        fault->first = fault->second = fault->third = -1;
        if (strcmp(line->subject, "fault") ||
            (strcmp(line->key, call->function) && strcmp(line->key, "*")))
            continue;
        if (sscanf(line->value, "%31s %7s %ld %ld %ld", device, fault->kind, &fault->first,
                   &fault->second, &fault->third) >= 2 &&
            (!strcmp(device, call->device) || !strcmp(device, "*")))
            return true;
    }
    return false;
}

static void write_log(const Call *call, int code) {
    const char *path = fact(&call->state, "host", "log");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) {
        fprintf(file, "%s %s %d\n", call->function, call->device, code);
        fclose(file);
    }
}

static bool hangs_on(const Call *call) {
    Fault fault;
    for (int i = 0; next_fault(call, &i, &fault);)
        if (!strcmp(fault.kind, "hang") && fault.first < 0)
            return true;
    return false;
}

static void suffer(Call *call, const Fault *fault) {
    long from = fault->second < 0 ? 1 : fault->second;
    long to = fault->third < 0 ? LONG_MAX : fault->third;
    if (!strcmp(fault->kind, "crash"))
        raise(SIGSEGV);
    else if (!strcmp(fault->kind, "hang") && fault->first > 0)
        usleep((useconds_t)fault->first * 1000);
    else if (!strcmp(fault->kind, "code") && call->number >= from && call->number <= to)
        call->code = (int)fault->first;
}

void start(Call *call, const char *function, const char *device) {
    Fault fault;
    call->function = function;
    snprintf(call->device, sizeof call->device, "%s", device);
    call->number = count_call(function, device);
    call->code = 0;
    read_state(&call->state);
    if (hangs_on(call))
        write_log(call, HANGS);
    while (hangs_on(call)) {
        usleep(LOOK_AGAIN_US);
        read_state(&call->state);
    }
    for (int i = 0; next_fault(call, &i, &fault);)
        suffer(call, &fault);
}

int finish(const Call *call) {
    write_log(call, call->code);
    return call->code;
}
