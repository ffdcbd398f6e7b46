/* A QEMU TCG plugin: exact counts of guest instructions between two addresses.
 *
 * Arguments: entry=ADDRESS, leave=ADDRESS, owners=FILE, out=FILE, and optionally objects=FILE.
 * Counting starts when the instruction at `entry` is about to run and stops before the one at `leave`;
 * both must be jump targets, since whole translation blocks are counted. `owners` has a line
 * "START END" (hexadecimal) per function whose cost is wanted with everything that it calls; functions
 * not listed there count to the listed one that ran last. `objects` has such a line per array whose
 * loads and stores are wanted. `out` gets a line "run COUNT" for every such span, in order, a line
 * "owner INDEX COUNT" for every owner, a line "object INDEX BYTES" for every object, and a line
 * "at ADDRESS COUNT MNEMONIC" for every instruction that ran within any span.
 *
 * Debian's QEMU loads plugins but ships no header, so the few functions used are declared here; they
 * have had these signatures since QEMU 4.2.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
typedef void block_callback(unsigned int cpu, void *data);
typedef uint32_t memory_info;
typedef void memory_callback(unsigned int cpu, memory_info info, uint64_t address, void *data);
enum { NO_REGISTERS = 0 };
enum { LOADS_AND_STORES = 3 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
                                                  void (*callback)(plugin_id id, void *block));
extern void qemu_plugin_register_atexit_cb(plugin_id id,
                                           void (*callback)(plugin_id id, void *data), void *data);
extern void qemu_plugin_register_vcpu_tb_exec_cb(void *block, block_callback *callback, int flags,
                                                 void *data);
extern void qemu_plugin_register_vcpu_mem_cb(void *instruction, memory_callback *callback, int flags,
                                             int kinds, void *data);
extern unsigned int qemu_plugin_mem_size_shift(memory_info info);
extern size_t qemu_plugin_tb_n_insns(const void *block);
extern void *qemu_plugin_tb_get_insn(const void *block, size_t index);
extern uint64_t qemu_plugin_insn_vaddr(const void *instruction);
extern char *qemu_plugin_insn_disas(const void *instruction);

#ifndef QEMU_PLUGIN_VERSION
#define QEMU_PLUGIN_VERSION 1
#endif
__attribute__((visibility("default"))) int qemu_plugin_version = QEMU_PLUGIN_VERSION;

typedef struct {
    uint64_t address;
    char mnemonic[16];
} instruction;

/* A span of addresses: a function and the instructions that it costs, or an array and the bytes that
 * are moved to and from it. */
typedef struct span {
    struct span *next;
    uint64_t start, end, count;
} span;

typedef struct block {
    struct block *next;
    span *owner; /* null: a callee of whichever owner ran last */
    uint64_t executions;
    size_t length;
    instruction instructions[];
} block;

static uint64_t entry_address, leave_address, count;
static int counting, writes_encodings;
static block *blocks;
static span nobody, *owners, *objects, *current = &nobody;
static FILE *out;

static void executed(unsigned int cpu, void *data)
{
    block *const self = data;
    const uint64_t address = self->instructions[0].address;
    (void)cpu;
    if (counting && address == leave_address) {
        fprintf(out, "run %" PRIu64 "\n", count);
        counting = 0;
    }
    if (address == entry_address) {
        counting = 1;
        count = 0;
        current = &nobody;
    }
    if (counting) {
        if (self->owner)
            current = self->owner;
        current->count += self->length;
        count += self->length;
        ++self->executions;
    }
}

static void accessed(unsigned int cpu, memory_info info, uint64_t address, void *data)
{
    (void)cpu;
    (void)data;
    if (!counting)
        return;
    for (span *o = objects; o; o = o->next)
        if (o->start <= address && address < o->end)
            o->count += 1u << qemu_plugin_mem_size_shift(info);
}

/* What stands before the mnemonic: on RISC-V the instruction's encoding. */
static size_t skipped(const char *text)
{
    const size_t encoding = strcspn(text, " \t");
    return writes_encodings ? encoding + strspn(text + encoding, " \t") : 0;
}

static void translated(plugin_id id, void *translation)
{
    const size_t length = qemu_plugin_tb_n_insns(translation);
    block *const self = calloc(1, sizeof *self + length * sizeof self->instructions[0]);
    (void)id;
    if (!self || !length)
        return;
    self->length = length;
    self->next = blocks;
    blocks = self;
    for (size_t i = 0; i < length; ++i) {
        void *const guest = qemu_plugin_tb_get_insn(translation, i);
        char *const text = qemu_plugin_insn_disas(guest);
        const char *const name = text + skipped(text);
        self->instructions[i].address = qemu_plugin_insn_vaddr(guest);
        snprintf(self->instructions[i].mnemonic, sizeof self->instructions[i].mnemonic, "%.*s",
                 (int)strcspn(name, " \t"), name);
        free(text);
        if (objects)
            qemu_plugin_register_vcpu_mem_cb(guest, accessed, NO_REGISTERS, LOADS_AND_STORES, NULL);
    }
    const uint64_t address = self->instructions[0].address;
    for (span *o = owners; o; o = o->next)
        if (o->start <= address && address < o->end)
            self->owner = o;
    qemu_plugin_register_vcpu_tb_exec_cb(translation, executed, NO_REGISTERS, self);
}

static void write_counts(const char *kind, const span *first)
{
    size_t index = 0;
    for (const span *s = first; s; s = s->next)
        fprintf(out, "%s %zu %" PRIu64 "\n", kind, index++, s->count);
}

static void finished(plugin_id id, void *data)
{
    (void)id;
    (void)data;
    for (const block *b = blocks; b; b = b->next)
        for (size_t i = 0; b->executions && i < b->length; ++i)
            fprintf(out, "at %" PRIx64 " %" PRIu64 " %s\n", b->instructions[i].address,
                    b->executions, b->instructions[i].mnemonic);
    write_counts("owner", owners);
    write_counts("object", objects);
    fclose(out);
}

static int read_spans(const char *path, span **last)
{
    FILE *const file = path ? fopen(path, "r") : NULL;
    uint64_t start, end;
    if (!file)
        return 0;
    for (; fscanf(file, "%" SCNx64 " %" SCNx64, &start, &end) == 2; last = &(*last)->next) {
        *last = calloc(1, sizeof **last);
        if (!*last)
            return 0;
        (*last)->start = start;
        (*last)->end = end;
    }
    fclose(file);
    return 1;
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info,
                                                               int argc, char **argv)
{
    const char *path = NULL, *owners_path = NULL, *objects_path = NULL;
    writes_encodings = !strncmp(*(const char *const *)info, "riscv", 5); /* name of the target */
    for (int i = 0; i < argc; ++i) {
        if (!strncmp(argv[i], "entry=", 6))
            entry_address = strtoull(argv[i] + 6, NULL, 0);
        else if (!strncmp(argv[i], "leave=", 6))
            leave_address = strtoull(argv[i] + 6, NULL, 0);
        else if (!strncmp(argv[i], "owners=", 7))
            owners_path = argv[i] + 7;
        else if (!strncmp(argv[i], "objects=", 8))
            objects_path = argv[i] + 8;
        else if (!strncmp(argv[i], "out=", 4))
            path = argv[i] + 4;
    }
    out = path ? fopen(path, "w") : NULL;
    if (!out || !read_spans(owners_path, &owners) ||
        (objects_path && !read_spans(objects_path, &objects))) {
        fprintf(stderr, "count: cannot write out=FILE, or read owners=FILE or objects=FILE\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
