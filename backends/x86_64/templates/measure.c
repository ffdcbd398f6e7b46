/* Measuring a compiled network from outside: time per block, and stack depth.
 * Built when a bench runs; no part of an artifact. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

typedef int run_function(void *context);

enum { MAX_TICKS = 4096, STACK_BYTES = 1 << 20, FRAME_BYTES = 128, PAINT = 0xA5 };

typedef struct {
    const int *next_block; /* of the context being measured */
    int count;
    int blocks[MAX_TICKS]; /* the block that follows each tick */
    uint64_t nanoseconds[MAX_TICKS];
} trace;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void tick(trace *log)
{
    if (log->count < MAX_TICKS) {
        log->blocks[log->count] = *log->next_block;
        log->nanoseconds[log->count++] = now();
    }
}

/* A `between_blocks` callback; `user` is a trace. */
int measure_between_blocks(void *context, void *user)
{
    (void)context;
    tick(user);
    return 0;
}

/* CPU time of one run in ns; blocks are logged if the context's callback is the one above. */
uint64_t measure_run(run_function *run, void *context, trace *log)
{
    log->count = 0;
    const uint64_t began = now();
    run(context);
    const uint64_t ended = now();
    tick(log);
    return ended - began;
}

typedef struct {
    run_function *run;
    void *context;
    uint8_t *stack;
    int64_t depth;
} job;

/* Paint what lies below this frame, run, and look for the deepest byte that changed. */
static void *run_painted(void *argument)
{
    job *work = argument;
    uint8_t *const top = (uint8_t *)__builtin_frame_address(0);
    for (volatile uint8_t *p = work->stack; p < top - FRAME_BYTES; ++p)
        *p = PAINT;
    work->run(work->context);
    const volatile uint8_t *deepest = work->stack;
    while (deepest < top && *deepest == PAINT)
        ++deepest;
    work->depth = top - deepest;
    return NULL;
}

/* Bytes of stack that one run needs, on a thread of its own; FRAME_BYTES at least, -1 on failure. */
int64_t measure_stack(run_function *run, void *context)
{
    pthread_attr_t attributes;
    pthread_t thread;
    uint8_t *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        return -1;
    job work = {run, context, stack, -1};
    if (!pthread_attr_init(&attributes) && !pthread_attr_setstack(&attributes, stack, STACK_BYTES) &&
        !pthread_create(&thread, &attributes, run_painted, &work))
        pthread_join(thread, NULL);
    munmap(stack, STACK_BYTES);
    return work.depth;
}
