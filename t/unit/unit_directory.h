/* unit_directory.h: a directory of a test's own. A test that has one defines
 * _GNU_SOURCE for nftw(). */

#ifndef UNIT_DIRECTORY_H
#define UNIT_DIRECTORY_H

#include "unit.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static inline char *
unit_directory(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;

    assert_true(asprintf(&path, "%s/edgespan-unit-XXXXXX", base != NULL ? base : "/tmp") > 0);
    assert_non_null(mkdtemp(path));
    return path;
}

static inline int
unit_directory_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void) status;
    (void) type;
    (void) walk;
    return remove(path);
}

/* With all that is in it. */
static inline void
unit_directory_remove(char *path)
{
    assert_int_equal(nftw(path, unit_directory_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(path);
}

#endif
