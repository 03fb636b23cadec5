/* The windowed just-in-time search of search.py, in C.

   The same algorithm, visiting the same configurations in the same order (the
   tests compare node counts); read search.py for why it is right.  Only the
   limited API is used, so that one build serves every Python from 3.11 on.

   search(events, optional, classes, read_only, initial, step, guards, priority,
          tick, tick_every, outlook) -> (result, nodes, furthest, choices)

   The first four are lists as in problem.Problem.  Either `step` is a callable
   (state, class) -> next state or -1, asked once for each pair, or `guards` is
   (tests, operands, assigns), lists by class as in problem.GuardedSteps, and
   step is None.  `priority` is a list by operation, or None.  `tick(nodes)` is
   called every `tick_every` configurations; a false answer ends the search.
   `outlook` is None or (can_reach, reset_states): a callable (state, class) ->
   bool and a list by operation, as in problem.Outlook.
   The result is 1 (linearizable), 0 (not) or -1 (ended by tick). */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { REFUSED = -1, LINEARIZABLE = 1, ILLEGAL = 0, ENDED = -1 };
enum { ANY = 0, IS = 1, IS_NOT = 2 };

/* ---- growing arrays ---------------------------------------------------- */

static void *resized(void *block, size_t count, size_t size)
{
    void *grown = NULL;
    if (count == 0)
        count = 1;
    if (count <= PY_SSIZE_T_MAX / size)
        grown = PyMem_Realloc(block, count * size);
    if (grown == NULL)
        PyErr_NoMemory();
    return grown;
}

/* Make room for `needed` elements; 0 when out of memory, and the block stays as it was. */
static int reserve(void *block_pointer, size_t *capacity, size_t needed, size_t size)
{
    void **block = block_pointer;
    if (needed <= *capacity)
        return 1;
    size_t wanted = *capacity ? *capacity : 64;
    while (wanted < needed)
        wanted *= 2;
    void *grown = resized(*block, wanted, size);
    if (grown == NULL)
        return 0;
    *block = grown;
    *capacity = wanted;
    return 1;
}

static int32_t *ints_of(PyObject *list, Py_ssize_t *length)
{
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "search takes lists of integers");
        return NULL;
    }
    Py_ssize_t count = PyList_Size(list);
    int32_t *values = resized(NULL, (size_t)count, sizeof *values);
    for (Py_ssize_t i = 0; values != NULL && i < count; i++) {
        long value = PyLong_AsLong(PyList_GetItem(list, i));
        if ((value == -1 && PyErr_Occurred()) || value < INT32_MIN || value > INT32_MAX) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_OverflowError, "search takes 32-bit integers");
            PyMem_Free(values);
            return NULL;
        }
        values[i] = (int32_t)value;
    }
    *length = count;
    return values;
}

/* ---- the memoised step ------------------------------------------------- */

typedef struct {
    int32_t *tests, *operands, *assigns; /* by class, where guards were given */
    PyObject *callable;                  /* otherwise */
    uint64_t *keys;                      /* open addressing; EMPTY where free */
    int32_t *values;
    size_t capacity, used;
    int failed; /* a Python error is set; every step is refused from here on */
} Steps;

#define EMPTY UINT64_MAX

static uint64_t mixed(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ x >> 33;
}

static size_t steps_place(const Steps *steps, uint64_t key)
{
    size_t at = mixed(key) & (steps->capacity - 1);
    while (steps->keys[at] != EMPTY && steps->keys[at] != key)
        at = (at + 1) & (steps->capacity - 1);
    return at;
}

static int steps_grow(Steps *steps)
{
    uint64_t *old_keys = steps->keys;
    int32_t *old_values = steps->values;
    size_t old_capacity = steps->capacity, capacity = old_capacity ? 2 * old_capacity : 1024;
    uint64_t *keys = resized(NULL, capacity, sizeof *keys);
    int32_t *values = resized(NULL, capacity, sizeof *values);
    if (keys == NULL || values == NULL) {
        PyMem_Free(keys);
        PyMem_Free(values);
        return 0;
    }
    memset(keys, 0xff, capacity * sizeof *keys);
    steps->keys = keys;
    steps->values = values;
    steps->capacity = capacity;
    for (size_t i = 0; i < old_capacity; i++)
        if (old_keys[i] != EMPTY) {
            size_t at = steps_place(steps, old_keys[i]);
            keys[at] = old_keys[i];
            values[at] = old_values[i];
        }
    PyMem_Free(old_keys);
    PyMem_Free(old_values);
    return 1;
}

static int32_t ask(Steps *steps, int32_t state, int32_t cls)
{
    if (steps->failed)
        return REFUSED;
    PyObject *answer = PyObject_CallFunction(steps->callable, "ii", state, cls);
    long after = answer == NULL ? -1 : PyLong_AsLong(answer);
    Py_XDECREF(answer);
    if (after == -1 && PyErr_Occurred())
        steps->failed = 1;
    return (int32_t)after;
}

static int32_t step(Steps *steps, int32_t state, int32_t cls)
{
    if (steps->tests != NULL) {
        int32_t test = steps->tests[cls];
        if (test != ANY && (test == IS) != (state == steps->operands[cls]))
            return REFUSED;
        return steps->assigns[cls] < 0 ? state : steps->assigns[cls];
    }
    uint64_t key = (uint64_t)(uint32_t)state << 32 | (uint32_t)cls;
    size_t at = steps_place(steps, key);
    if (steps->keys[at] == key)
        return steps->values[at];
    int32_t after = ask(steps, state, cls);
    if (2 * ++steps->used > steps->capacity) {
        if (!steps_grow(steps)) {
            steps->failed = 1;
            return REFUSED;
        }
        at = steps_place(steps, key);
    }
    steps->keys[at] = key;
    steps->values[at] = after;
    return after;
}

/* ---- the search -------------------------------------------------------- */

/* A configuration is 1 + window_words + optional_words words: the place and
   state, the window's mask of what has taken effect, the optional operations
   spent. */

typedef struct {
    int32_t place, state;
    int32_t before;      /* the state before an optional operation just taken here, else -1 */
    int32_t trail;       /* how it was reached: an index of `trails`, -1 at the start */
    size_t next, end;    /* what is still to be tried, in `choices` */
} Frame;

typedef struct {
    int32_t parent, operation;
} Trail;

typedef struct {
    int32_t *events, *classes, *optional, *read_only, *priority;
    Py_ssize_t event_count, operation_count, class_count;
    Steps steps;

    int32_t *slot;         /* of the window, or the place among the optional ones */
    int32_t *return_rank;  /* by place of a return: its number among the returns */
    int32_t *open_start;   /* by return: where its list of open operations starts */
    int32_t *open;
    size_t open_capacity;
    int32_t *optional_before; /* by return: how many optional operations were called before */
    int32_t *optionals;
    int32_t window_words, optional_words, words;

    uint64_t *visited; /* configurations, `words` each */
    size_t visited_capacity, nodes;
    uint32_t *table; /* hash table of 1 + index into visited */
    size_t table_capacity;

    Frame *frames;
    size_t frame_capacity, depth;
    uint64_t *masks; /* of the frames */
    size_t mask_capacity;
    int32_t *choices;
    size_t choice_capacity;
    Trail *trails;
    size_t trail_capacity, trail_count;

    int32_t *stamped; /* by class: the last node that tried it */
    int32_t *wanted;  /* by state: the last node at which some operation asked for it (guards only) */
    size_t wanted_capacity;
    int32_t stamp;
    Steps reach;            /* can_reach, where there is an outlook */
    int32_t *reset_states;  /* by operation; NULL without an outlook */
    int32_t *called, *returned; /* by operation: its places among the events, -1 for none */
    int32_t *next_read;     /* by place: the class of the next read called after it that will return, -1 for none */
    int32_t *relevant;      /* lists of resets after which a class may become legal, each ended by -1 */
    size_t relevant_capacity, relevant_count;
    int32_t *relevant_of;   /* by class: where its list starts, -1 while it is not made */

    int exotic; /* some class assigns on inequality: the short cut for guards does not hold */

    uint64_t *now; /* the masks of the present configuration: window, then optional */
    int32_t place, state, trail;
} Search;

static int has(const uint64_t *mask, int32_t bit) { return (int)(mask[bit >> 6] >> (bit & 63) & 1); }
static void put(uint64_t *mask, int32_t bit) { mask[bit >> 6] |= 1ULL << (bit & 63); }
static void drop(uint64_t *mask, int32_t bit) { mask[bit >> 6] &= ~(1ULL << (bit & 63)); }

/* Assign slots and list what is open at each return, the earliest deadline first. */
static int lay_out(Search *s)
{
    Py_ssize_t events = s->event_count, operations = s->operation_count;
    int32_t *deadline = resized(NULL, (size_t)operations, sizeof *deadline);
    int32_t *free_slots = resized(NULL, (size_t)operations, sizeof *free_slots);
    int32_t *window = resized(NULL, (size_t)operations, sizeof *window);
    s->slot = resized(NULL, (size_t)operations, sizeof *s->slot);
    s->optionals = resized(NULL, (size_t)operations, sizeof *s->optionals);
    s->return_rank = resized(NULL, (size_t)events, sizeof *s->return_rank);
    s->open_start = resized(NULL, (size_t)events + 1, sizeof *s->open_start);
    s->optional_before = resized(NULL, (size_t)events, sizeof *s->optional_before);
    int done = 0;
    if (PyErr_Occurred())
        goto out;
    int32_t free_count = 0, slots = 0, width = 0, optionals = 0, returns = 0;
    size_t open_count = 0;
    for (Py_ssize_t at = 0; at < events; at++)
        if (s->events[at] < 0)
            deadline[~s->events[at]] = (int32_t)at;
    for (Py_ssize_t at = 0; at < events; at++) {
        int32_t operation = s->events[at];
        if (operation < 0) {
            if (!reserve(&s->open, &s->open_capacity, open_count + (size_t)width, sizeof *s->open))
                goto out;
            s->return_rank[at] = returns;
            s->open_start[returns] = (int32_t)open_count;
            s->optional_before[returns++] = optionals;
            memcpy(s->open + open_count, window, (size_t)width * sizeof *window);
            open_count += (size_t)width;
            free_slots[free_count++] = s->slot[~operation];
            memmove(window, window + 1, (size_t)--width * sizeof *window); /* the first has the earliest deadline */
        } else if (s->optional[operation]) {
            s->slot[operation] = optionals;
            s->optionals[optionals++] = operation;
        } else {
            int32_t into = width++;
            for (; into > 0 && deadline[window[into - 1]] > deadline[operation]; into--)
                window[into] = window[into - 1];
            window[into] = operation;
            s->slot[operation] = free_count ? free_slots[--free_count] : slots++;
        }
    }
    s->open_start[returns] = (int32_t)open_count;
    s->window_words = slots / 64 + 1;
    s->optional_words = (optionals + 63) / 64;
    s->words = 1 + s->window_words + s->optional_words;
    done = 1;
out:
    PyMem_Free(deadline);
    PyMem_Free(free_slots);
    PyMem_Free(window);
    return done;
}

static int is_read(Search *s, int32_t operation)
{
    int32_t cls = s->classes[operation];
    return s->read_only[cls] && step(&s->steps, s->state, cls) == s->state;
}

/* Walk on to the next return of an operation that has not taken effect, taking new reads on the way. */
static void advance(Search *s)
{
    for (; s->place < s->event_count; s->place++) {
        int32_t operation = s->events[s->place];
        if (operation < 0) {
            if (!has(s->now, s->slot[~operation]))
                return;
            drop(s->now, s->slot[~operation]);
        } else if (!s->optional[operation] && is_read(s, operation)) {
            put(s->now, s->slot[operation]);
        }
    }
}

/* Take the open reads that are legal in a state just entered; say whether there were any. */
static int take_reads(Search *s)
{
    int32_t rank = s->return_rank[s->place];
    int taken = 0;
    for (int32_t i = s->open_start[rank]; i < s->open_start[rank + 1]; i++) {
        int32_t operation = s->open[i];
        if (!has(s->now, s->slot[operation]) && is_read(s, operation)) {
            put(s->now, s->slot[operation]);
            taken = 1;
        }
    }
    return taken;
}

static uint64_t hash_of(const Search *s, const uint64_t *configuration)
{
    uint64_t hash = mixed(configuration[0]);
    for (int32_t i = 0; i < s->window_words; i++)
        hash = mixed(hash ^ configuration[1 + i]);
    return hash;
}

static int grow_table(Search *s)
{
    size_t capacity = s->table_capacity ? 2 * s->table_capacity : 256;
    uint32_t *table = resized(NULL, capacity, sizeof *table);
    if (table == NULL)
        return 0;
    memset(table, 0, capacity * sizeof *table);
    for (size_t node = 0; node < s->nodes; node++) {
        size_t at = hash_of(s, s->visited + node * (size_t)s->words) & (capacity - 1);
        while (table[at])
            at = (at + 1) & (capacity - 1);
        table[at] = (uint32_t)node + 1;
    }
    PyMem_Free(s->table);
    s->table = table;
    s->table_capacity = capacity;
    return 1;
}

static int is_subset(const uint64_t *small, const uint64_t *large, int32_t words)
{
    for (int32_t i = 0; i < words; i++)
        if (small[i] & ~large[i])
            return 0;
    return 1;
}

/* Note the configuration: 1 if it is new, 0 if one as good was here, -1 on an error. */
static int visit(Search *s)
{
    size_t words = (size_t)s->words, window = (size_t)s->window_words;
    if (2 * (s->nodes + 1) > s->table_capacity && !grow_table(s))
        return -1;
    if (!reserve(&s->visited, &s->visited_capacity, (s->nodes + 1) * words, sizeof *s->visited))
        return -1;
    uint64_t *fresh = s->visited + s->nodes * words;
    fresh[0] = (uint64_t)(uint32_t)s->place << 32 | (uint32_t)s->state;
    memcpy(fresh + 1, s->now, (words - 1) * sizeof *fresh);
    size_t at = hash_of(s, fresh) & (s->table_capacity - 1);
    for (; s->table[at]; at = (at + 1) & (s->table_capacity - 1)) {
        const uint64_t *earlier = s->visited + (s->table[at] - 1) * words;
        if (!memcmp(earlier, fresh, (1 + window) * sizeof *fresh) &&
            is_subset(earlier + 1 + window, fresh + 1 + window, s->optional_words))
            return 0;
    }
    if (s->nodes >= UINT32_MAX - 1) {
        PyErr_NoMemory();
        return -1;
    }
    s->table[at] = (uint32_t)++s->nodes;
    return 1;
}

/* Whether after `cls` (state -> after) some operation does what it could not do before. */
static int is_useful(Search *s, int32_t operation, int32_t after, int32_t rank, const uint64_t *spent)
{
    for (int32_t i = s->open_start[rank]; i < s->open_start[rank + 1]; i++) {
        int32_t other = s->open[i];
        if (has(s->now, s->slot[other]))
            continue;
        int32_t then = step(&s->steps, after, s->classes[other]);
        if (then >= 0 && then != step(&s->steps, s->state, s->classes[other]))
            return 1;
    }
    for (int32_t i = 0; i < s->optional_before[rank]; i++) {
        int32_t other = s->optionals[i];
        if (other == operation || has(spent, i))
            continue;
        int32_t then = step(&s->steps, after, s->classes[other]);
        if (then >= 0 && then != after && then != step(&s->steps, s->state, s->classes[other]))
            return 1;
    }
    return 0;
}

/* Whether an operation is refused, or does no more than it would have without the optional one just taken. */
static int is_pointless(Search *s, int32_t after, int32_t before, int32_t cls)
{
    return after < 0 || (before >= 0 && step(&s->steps, before, cls) == after);
}

/* For guards: stamp the states that some open operation asks for; say whether one asks for any but this one. */
static int stamp_wanted(Search *s, int32_t rank, const uint64_t *spent)
{
    const Steps *steps = &s->steps;
    int elsewhere = 0;
    for (int32_t i = s->open_start[rank]; i < s->open_start[rank + 1]; i++) {
        int32_t other = s->open[i], cls = s->classes[other];
        if (has(s->now, s->slot[other]))
            continue;
        if (steps->tests[cls] == IS)
            s->wanted[steps->operands[cls]] = s->stamp;
        else if (steps->tests[cls] == IS_NOT && steps->operands[cls] == s->state)
            elsewhere = 1;
    }
    for (int32_t i = 0; i < s->optional_before[rank]; i++) {
        int32_t cls = s->classes[s->optionals[i]];
        if (!has(spent, i) && steps->tests[cls] == IS)
            s->wanted[steps->operands[cls]] = s->stamp;
    }
    return elsewhere;
}

/* List the resets after which a class may become legal; where the list starts, or -1 on an error. */
static int32_t relevant_to(Search *s, int32_t cls)
{
    if (s->relevant_of[cls] >= 0)
        return s->relevant_of[cls];
    size_t start = s->relevant_count, count = start;
    if (!reserve(&s->relevant, &s->relevant_capacity, count + (size_t)s->operation_count + 1, sizeof *s->relevant) ||
        count > INT32_MAX) {
        s->reach.failed = 1;
        return -1;
    }
    for (int32_t i = 0; i < s->operation_count; i++)
        if (s->reset_states[i] >= 0 && s->called[i] >= 0 && step(&s->reach, s->reset_states[i], cls) > 0)
            s->relevant[count++] = i;
    s->relevant[count++] = -1;
    s->relevant_count = count;
    return s->relevant_of[cls] = (int32_t)start;
}

/* Whether a reset after which the class may become legal has not taken effect yet. */
static int is_reset_to_come(Search *s, int32_t cls, int32_t operation)
{
    int32_t at = relevant_to(s, cls);
    if (at < 0)
        return 1;
    for (; s->relevant[at] >= 0; at++) {
        int32_t reset = s->relevant[at];
        if (reset == operation)
            continue;
        if (s->called[reset] > s->place)
            return 1;
        if (s->optional[reset] ? !has(s->now + s->window_words, s->slot[reset])
                               : s->returned[reset] >= s->place && !has(s->now, s->slot[reset]))
            return 1;
    }
    return 0;
}

/* Whether after `operation`, which leads to `state`, an open read or the next one could never be legal. */
static int is_dead_end(Search *s, int32_t state, int32_t rank, int32_t operation)
{
    int32_t upcoming = s->next_read[s->place];
    if (upcoming >= 0 && step(&s->reach, state, upcoming) <= 0 && !is_reset_to_come(s, upcoming, operation))
        return 1;
    for (int32_t i = s->open_start[rank]; i < s->open_start[rank + 1]; i++) {
        int32_t other = s->open[i], cls = s->classes[other];
        if (other != operation && s->read_only[cls] && !has(s->now, s->slot[other]) &&
            step(&s->reach, state, cls) <= 0 && !is_reset_to_come(s, cls, operation))
            return 1;
    }
    return 0;
}

static size_t add_optionals(Search *s, size_t end, int32_t rank, int32_t before)
{
    const uint64_t *spent = s->now + s->window_words;
    int guarded = s->steps.tests != NULL && !s->exotic;
    int elsewhere = guarded && s->optional_before[rank] ? stamp_wanted(s, rank, spent) : 0;
    for (int32_t i = 0; i < s->optional_before[rank]; i++) {
        if (has(spent, i))
            continue;
        int32_t operation = s->optionals[i], cls = s->classes[operation];
        if (s->stamped[cls] == s->stamp)
            continue;
        s->stamped[cls] = s->stamp;
        int32_t after = step(&s->steps, s->state, cls);
        if (after == s->state || is_pointless(s, after, before, cls))
            continue;
        if (guarded ? elsewhere || s->wanted[after] == s->stamp : is_useful(s, operation, after, rank, spent))
            s->choices[end++] = operation;
    }
    return end;
}

static void sort_by_priority(const Search *s, size_t start, size_t end)
{
    for (size_t i = start + 1; i < end; i++) {
        int32_t operation = s->choices[i];
        size_t into = i;
        for (; into > start && s->priority[s->choices[into - 1]] > s->priority[operation]; into--)
            s->choices[into] = s->choices[into - 1];
        s->choices[into] = operation;
    }
}

/* Push a frame with the operations worth taking here, the best first; 0 on an error. */
static int push(Search *s, int32_t before)
{
    int32_t rank = s->return_rank[s->place], wanted = s->classes[~s->events[s->place]];
    int32_t width = s->open_start[rank + 1] - s->open_start[rank];
    size_t masks = (size_t)s->words - 1, start = s->depth ? s->frames[s->depth - 1].end : 0, end = start;
    if (!reserve(&s->choices, &s->choice_capacity, start + (size_t)(width + s->optional_before[rank]), sizeof *s->choices) ||
        !reserve(&s->frames, &s->frame_capacity, s->depth + 1, sizeof *s->frames) ||
        !reserve(&s->masks, &s->mask_capacity, (s->depth + 1) * masks, sizeof *s->masks))
        return 0;
    s->stamp++;
    size_t first = start; /* before it: what lets the returning operation follow */
    for (int32_t i = s->open_start[rank]; i < s->open_start[rank + 1]; i++) {
        int32_t operation = s->open[i], cls = s->classes[operation];
        if (has(s->now, s->slot[operation]) || s->stamped[cls] == s->stamp)
            continue;
        s->stamped[cls] = s->stamp;
        size_t into = end;
        if (s->priority == NULL) { /* else it is looked at when its turn comes */
            int32_t after = step(&s->steps, s->state, cls);
            if (is_pointless(s, after, before, cls))
                continue;
            if (cls != wanted && step(&s->steps, after, wanted) < 0) {
                s->choices[end++] = operation;
                continue;
            }
            memmove(s->choices + first + 1, s->choices + first, (into - first) * sizeof *s->choices);
            into = first++;
        }
        s->choices[into] = operation;
        end++;
    }
    end = add_optionals(s, end, rank, before);
    if (s->priority != NULL)
        sort_by_priority(s, start, end);
    memcpy(s->masks + s->depth * masks, s->now, masks * sizeof *s->now);
    s->frames[s->depth++] = (Frame){s->place, s->state, before, s->trail, start, end};
    return !s->steps.failed && !s->reach.failed;
}

/* Return to the deepest frame and find its next operation worth taking, -1 if there is none. */
static int32_t next_choice(Search *s, Frame *frame)
{
    size_t masks = (size_t)s->words - 1;
    memcpy(s->now, s->masks + (s->depth - 1) * masks, masks * sizeof *s->now);
    s->place = frame->place;
    s->state = frame->state;
    while (frame->next < frame->end) {
        int32_t operation = s->choices[frame->next++], cls = s->classes[operation];
        int32_t after = step(&s->steps, s->state, cls);
        if (!is_pointless(s, after, frame->before, cls) &&
            (s->reset_states == NULL || !is_dead_end(s, after, s->return_rank[s->place], operation)))
            return operation;
    }
    return -1;
}

/* Take the next operation of the deepest frame that has one: 0 when there is none, -1 on an error. */
static int take_next(Search *s, int32_t *before)
{
    int32_t operation = -1;
    Frame *frame = NULL;
    for (; s->depth && operation < 0; s->depth -= operation < 0) {
        frame = &s->frames[s->depth - 1];
        operation = next_choice(s, frame);
    }
    if (operation < 0)
        return s->steps.failed || s->reach.failed ? -1 : 0;
    if (s->trail_count >= INT32_MAX) {
        PyErr_NoMemory();
        return -1;
    }
    if (!reserve(&s->trails, &s->trail_capacity, s->trail_count + 1, sizeof *s->trails))
        return -1;
    s->trails[s->trail_count] = (Trail){frame->trail, operation};
    s->trail = (int32_t)s->trail_count++;
    int32_t after = step(&s->steps, s->state, s->classes[operation]);
    *before = s->optional[operation] ? s->state : -1;
    put(s->optional[operation] ? s->now + s->window_words : s->now, s->slot[operation]);
    if (after != s->state) {
        s->state = after;
        if (take_reads(s))
            *before = -1;
    }
    advance(s);
    if (s->place != frame->place)
        *before = -1;
    return s->steps.failed || s->reach.failed ? -1 : 1;
}

/* Depth first; LINEARIZABLE, ILLEGAL, ENDED, or -2 on an error. */
static int run(Search *s, PyObject *tick, size_t tick_every, int32_t *furthest, int32_t *best)
{
    int32_t before = -1;
    *furthest = *best = s->trail = -1;
    advance(s);
    for (;;) {
        if (s->place > *furthest) {
            *furthest = s->place;
            *best = s->trail;
            if (s->place == s->event_count)
                return s->steps.failed ? -2 : LINEARIZABLE;
        }
        int is_new = visit(s);
        if (is_new < 0)
            return -2;
        if (is_new) {
            if (tick != Py_None && s->nodes % tick_every == 0) {
                PyObject *answer = PyObject_CallFunction(tick, "n", (Py_ssize_t)tick_every);
                int go_on = answer == NULL ? -1 : PyObject_IsTrue(answer);
                Py_XDECREF(answer);
                if (go_on < 0 || PyErr_CheckSignals())
                    return -2;
                if (!go_on)
                    return ENDED;
            }
            if (!push(s, before))
                return -2;
        }
        int taken = take_next(s, &before);
        if (taken <= 0)
            return taken < 0 ? -2 : ILLEGAL;
    }
}

/* ---- Python ------------------------------------------------------------ */

static PyObject *choices_of(const Search *s, int32_t trail)
{
    PyObject *list = PyList_New(0);
    for (; list != NULL && trail >= 0; trail = s->trails[trail].parent) {
        PyObject *operation = PyLong_FromLong(s->trails[trail].operation);
        if (operation == NULL || PyList_Append(list, operation) < 0)
            Py_CLEAR(list);
        Py_XDECREF(operation);
    }
    if (list != NULL && PyList_Reverse(list) < 0)
        Py_CLEAR(list);
    return list;
}

static int set_outlook(Search *s, PyObject *outlook)
{
    PyObject *can_reach, *reset_states;
    Py_ssize_t count;
    size_t operations = (size_t)s->operation_count, events = (size_t)s->event_count;
    if (!PyArg_ParseTuple(outlook, "OO", &can_reach, &reset_states))
        return 0;
    s->reach.callable = can_reach;
    s->reset_states = ints_of(reset_states, &count);
    if (s->reset_states == NULL || !steps_grow(&s->reach))
        return 0;
    if (count != s->operation_count) {
        PyErr_SetString(PyExc_ValueError, "reset_states must have an item for each operation");
        return 0;
    }
    s->called = resized(NULL, operations, sizeof *s->called);
    s->returned = resized(NULL, operations, sizeof *s->returned);
    s->next_read = resized(NULL, events, sizeof *s->next_read);
    s->relevant_of = resized(NULL, (size_t)s->class_count, sizeof *s->relevant_of);
    if (PyErr_Occurred())
        return 0;
    memset(s->called, 0xff, operations * sizeof *s->called);
    memset(s->returned, 0xff, operations * sizeof *s->returned);
    memset(s->relevant_of, 0xff, (size_t)s->class_count * sizeof *s->relevant_of);
    int32_t upcoming = -1;
    for (Py_ssize_t at = s->event_count - 1; at >= 0; at--) {
        int32_t operation = s->events[at];
        s->next_read[at] = upcoming;
        if (operation < 0) {
            s->returned[~operation] = (int32_t)at;
            continue;
        }
        s->called[operation] = (int32_t)at;
        if (!s->optional[operation] && s->read_only[s->classes[operation]])
            upcoming = s->classes[operation];
    }
    return 1;
}

static int set_guards(Search *s, PyObject *tests, PyObject *operands, PyObject *assigns)
{
    Py_ssize_t a, b, c;
    int32_t states = 0;
    s->steps.tests = ints_of(tests, &a);
    s->steps.operands = s->steps.tests == NULL ? NULL : ints_of(operands, &b);
    s->steps.assigns = s->steps.operands == NULL ? NULL : ints_of(assigns, &c);
    if (s->steps.assigns == NULL)
        return 0;
    if (a != s->class_count || b != a || c != a) {
        PyErr_SetString(PyExc_ValueError, "guards must be lists with an item for each class");
        return 0;
    }
    for (Py_ssize_t cls = 0; cls < a; cls++) {
        if (s->steps.operands[cls] >= states)
            states = s->steps.operands[cls] + 1;
        if (s->steps.assigns[cls] >= states)
            states = s->steps.assigns[cls] + 1;
        s->exotic |= s->steps.tests[cls] == IS_NOT && s->steps.assigns[cls] >= 0;
    }
    if (states <= s->state)
        states = s->state + 1;
    s->wanted = resized(NULL, (size_t)states, sizeof *s->wanted);
    if (s->wanted != NULL)
        memset(s->wanted, 0, (size_t)states * sizeof *s->wanted);
    return s->wanted != NULL;
}

/* Whether every operation is called once and, unless optional, returns once after that. */
static int is_well_formed(const Search *s)
{
    uint8_t *stage = PyMem_Calloc((size_t)s->operation_count + 1, 1); /* 0 not called, 1 open, 2 returned */
    int good = stage != NULL;
    Py_ssize_t open = 0;
    for (Py_ssize_t i = 0; good && i < s->event_count; i++) {
        int32_t operation = s->events[i] < 0 ? ~s->events[i] : s->events[i];
        good = operation < s->operation_count && stage[operation] == (s->events[i] < 0) &&
               !(s->events[i] < 0 && s->optional[operation]);
        if (good) {
            stage[operation]++;
            open += s->optional[operation] ? 0 : s->events[i] < 0 ? -1 : 1;
        }
    }
    for (Py_ssize_t i = 0; good && i < s->operation_count; i++)
        good = s->classes[i] >= 0 && s->classes[i] < s->class_count;
    PyMem_Free(stage);
    return good && open == 0;
}

static void clear(Search *s)
{
    void *blocks[] = {s->events, s->classes, s->optional, s->read_only, s->priority, s->steps.tests,
                      s->steps.operands, s->steps.assigns, s->steps.keys, s->steps.values, s->slot, s->return_rank,
                      s->open_start, s->open, s->optional_before, s->optionals, s->visited, s->table, s->frames,
                      s->masks, s->choices, s->trails, s->stamped, s->wanted, s->now, s->reach.keys, s->reach.values,
                      s->reset_states, s->called, s->returned, s->next_read, s->relevant, s->relevant_of};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        PyMem_Free(blocks[i]);
}

static int load(Search *s, PyObject *events, PyObject *optional, PyObject *classes, PyObject *read_only,
                PyObject *callable, PyObject *guards, PyObject *priority, PyObject *outlook)
{
    Py_ssize_t optional_count, priority_count;
    s->events = ints_of(events, &s->event_count);
    s->optional = s->events == NULL ? NULL : ints_of(optional, &optional_count);
    s->classes = s->optional == NULL ? NULL : ints_of(classes, &s->operation_count);
    s->read_only = s->classes == NULL ? NULL : ints_of(read_only, &s->class_count);
    if (s->read_only == NULL)
        return 0;
    if (priority != Py_None) {
        s->priority = ints_of(priority, &priority_count);
        if (s->priority == NULL)
            return 0;
    }
    if (optional_count != s->operation_count || (s->priority != NULL && priority_count != s->operation_count) ||
        s->event_count >= INT32_MAX || !is_well_formed(s)) {
        PyErr_SetString(PyExc_ValueError, "events, optional, classes and priority do not fit together");
        return 0;
    }
    if (callable == Py_None) {
        PyObject *tests, *operands, *assigns;
        if (!PyArg_ParseTuple(guards, "OOO", &tests, &operands, &assigns) ||
            !set_guards(s, tests, operands, assigns))
            return 0;
    } else {
        s->steps.callable = callable;
        if (!steps_grow(&s->steps))
            return 0;
    }
    if (outlook != Py_None && !set_outlook(s, outlook))
        return 0;
    s->stamped = resized(NULL, (size_t)s->class_count, sizeof *s->stamped);
    if (s->stamped == NULL)
        return 0;
    memset(s->stamped, 0, (size_t)s->class_count * sizeof *s->stamped);
    if (!lay_out(s))
        return 0;
    s->now = resized(NULL, (size_t)s->words, sizeof *s->now);
    if (s->now == NULL)
        return 0;
    memset(s->now, 0, (size_t)s->words * sizeof *s->now);
    return 1;
}

static PyObject *search(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *events, *optional, *classes, *read_only, *callable, *guards, *priority, *tick, *outlook;
    PyObject *answer = NULL;
    Py_ssize_t tick_every;
    int32_t furthest, best;
    Search s;
    memset(&s, 0, sizeof s);
    if (!PyArg_ParseTuple(arguments, "OOOOiOOOOnO", &events, &optional, &classes, &read_only, &s.state, &callable, &guards,
                          &priority, &tick, &tick_every, &outlook))
        return NULL;
    if (load(&s, events, optional, classes, read_only, callable, guards, priority, outlook)) {
        int result = run(&s, tick, tick_every > 0 ? (size_t)tick_every : 1, &furthest, &best);
        PyObject *choices = result == -2 ? NULL : choices_of(&s, best);
        if (choices != NULL)
            answer = Py_BuildValue("iniO", result, (Py_ssize_t)s.nodes, (int)furthest, choices);
        Py_XDECREF(choices);
    }
    clear(&s);
    return answer;
}

static PyMethodDef methods[] = {
    {"search", search, METH_VARARGS, "Decide a problem in integers; see the head of _search.c."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "splitvote.checkers.linearizability._search", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__search(void) { return PyModuleDef_Init(&definition); }
