# Edgespan: the tracing core, both server modules and their tests.
#
#   make            build/nginx/ngx_http_edgespan_module.so and build/httpd/mod_edgespan.so
#   make test       everything above, unit tests, tests against both servers
#   make interop    tests against real collectors, which it fetches first
#   make matrix     the nginx module with every nginx of Debian's archive, fetched first
#   make fuzz       every parser of the core against libFuzzer, FUZZ_SECONDS each
#   make demo       a traced gateway on this machine
#   make unit SANITIZE=address,undefined BUILD=build-asan
#
# Variables for the command line: CC, CFLAGS, LDFLAGS, BUILD (the output
# directory), SANITIZE, NGX_SRC (an nginx source tree), APXS, DESTDIR,
# CLANG_FORMAT, PROVE_FLAGS, UNIT, FUZZ, FUZZ_SECONDS, MATRIX, MATRIX_SOURCES.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

BUILD = build
CFLAGS = -O2 -g
CLANG_FORMAT = clang-format-14

# "make V=1" shows the commands.
Q = $(if $(V),,@)

# The tools may be absent until "make deps": all that asks them is expanded when
# a recipe needs it (=, not :=).
APXS = $(or $(shell command -v apxs2 || command -v apxs),$(error apxs is missing: run "make deps"))
NGX_SRC = $(firstword $(wildcard /usr/share/nginx/src /usr/src/nginx-*))
NGX_MODULES_DIR = $(shell nginx -V 2>&1 | sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p')

# The sanitizers check what _FORTIFY_SOURCE checks, and are disturbed by it.
ifdef SANITIZE
HARDENING = -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
else
HARDENING = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
endif

WARNINGS = -Wall -Wextra -Werror
COMPILE = $(CC) -std=gnu11 $(CFLAGS) $(WARNINGS) $(HARDENING) -fPIC -fvisibility=hidden -MMD -MP \
	-Icore -I$(BUILD)/core/gen
LIBS = -lcurl -lprotobuf-c -ljansson -lz -lcrypto -lpthread

CORE_OBJECTS = $(patsubst %.c,$(BUILD)/%.o,$(wildcard core/es_*.c)) \
	$(BUILD)/core/gen/es_otlp.pb-c.o
HTTPD_OBJECTS = $(patsubst %.c,$(BUILD)/%.o,$(wildcard httpd_module/*.c))
# UNIT="test_queue.c ..." chooses some of the unit tests.
UNIT = test_*.c
UNIT_PROGRAMS = $(patsubst t/%.c,$(BUILD)/%,$(wildcard $(addprefix t/unit/,$(UNIT))))

LIBEDGESPAN = $(BUILD)/core/libedgespan.a
NGX_MODULE = $(BUILD)/nginx/ngx_http_edgespan_module.so
HTTPD_MODULE = $(BUILD)/httpd/mod_edgespan.so

.PHONY: all core nginx httpd deps demo test check interop differences unit fuzz fuzzers bench format format-check install clean FORCE

all: nginx httpd
core: $(LIBEDGESPAN)
nginx: $(NGX_MODULE)
httpd: $(HTTPD_MODULE)

# A file that changes only when the text changes: what depends on it is made
# again for another compiler, other flags, a new or a lost source file.
define remember
@mkdir -p $(@D)
@echo '$(1)' | cmp -s - $@ || echo '$(1)' > $@
endef

$(BUILD)/compile: FORCE
	$(call remember,$(COMPILE))
$(BUILD)/objects: FORCE
	$(call remember,$(CORE_OBJECTS) $(HTTPD_OBJECTS) $(LDFLAGS))

# ---------------------------------------------------------------- core ---

# A pattern rule of two targets runs once for both.
$(BUILD)/core/gen/%.pb-c.c $(BUILD)/core/gen/%.pb-c.h: core/proto/%.proto
	@mkdir -p $(@D); echo '  PROTOC  $<'
	$(Q)protoc-c --proto_path=core/proto --c_out=$(BUILD)/core/gen $<

# Generated before anything is compiled: a first build knows no dependencies yet.
$(CORE_OBJECTS) $(HTTPD_OBJECTS): | $(BUILD)/core/gen/es_otlp.pb-c.h

$(BUILD)/core/gen/%.o: $(BUILD)/core/gen/%.c $(BUILD)/compile
	@echo '  CC      $<'
	$(Q)$(COMPILE) -c -o $@ $<

$(BUILD)/core/%.o: core/%.c $(BUILD)/compile
	@mkdir -p $(@D); echo '  CC      $<'
	$(Q)$(COMPILE) -c -o $@ $<

# Built anew: ar would keep the object of a source file that is gone.
$(LIBEDGESPAN): $(CORE_OBJECTS) $(BUILD)/objects
	@echo '  AR      $@'; rm -f $@
	$(Q)ar rcs $@ $(CORE_OBJECTS)

# --------------------------------------------------------------- httpd ---

# httpd does not mark its module for export; the version script hides the rest.
# clang warns of {NULL} at the end of its tables, and of APR's macros unless they
# come from a system header.
HTTPD_INCLUDES = -I$(shell $(APXS) -q INCLUDEDIR) \
	$(shell apr-1-config --includes; apu-1-config --includes)
HTTPD_COMPILE = $(COMPILE) -fvisibility=default -Wno-missing-field-initializers \
	$(shell $(APXS) -q CFLAGS) $(shell apr-1-config --cppflags) \
	$(patsubst -I%,-isystem %,$(filter-out -I/usr/include,$(HTTPD_INCLUDES)))

$(BUILD)/httpd_module/%.o: httpd_module/%.c $(BUILD)/compile
	@mkdir -p $(@D); echo '  CC      $<'
	$(Q)$(HTTPD_COMPILE) -c -o $@ $<

# nodelete: the exporter thread may still run when httpd unloads its modules for
# a restart.
$(HTTPD_MODULE): $(HTTPD_OBJECTS) $(LIBEDGESPAN) httpd_module/mod_edgespan.map $(BUILD)/objects
	@mkdir -p $(@D); echo '  LINK    $@'
	$(Q)$(CC) -shared $(HARDENING) $(LDFLAGS) -o $@ $(HTTPD_OBJECTS) \
	    -Wl,--whole-archive $(LIBEDGESPAN) -Wl,--no-whole-archive $(LIBS) \
	    -Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now -Wl,--exclude-libs,ALL \
	    -Wl,--version-script=httpd_module/mod_edgespan.map

# --------------------------------------------------------------- nginx ---

NGX_DIR = $(BUILD)/nginx/src
NGX_SOURCES = $(wildcard ngx_module/*.[ch] core/*.[ch])

$(BUILD)/nginx/inputs: FORCE
	$(call remember,$(CC) $(CFLAGS) $(HARDENING) $(LDFLAGS) $(NGX_SRC) $(NGX_SOURCES))

# A copy, because nginx builds inside its source tree. Debian says in conf_flags
# how it built its nginx; any other tree gives a module for nginx --with-compat.
$(BUILD)/nginx/configured: SHELL = /bin/bash
$(BUILD)/nginx/configured: $(BUILD)/nginx/inputs config core/proto/es_otlp.proto
	$(if $(NGX_SRC),,$(error no nginx source: run "make deps" or set NGX_SRC))
	@echo '  CONFIG  $(NGX_SRC)'; rm -rf $(NGX_DIR)
	@cp -R $(NGX_SRC) $(NGX_DIR)
	$(Q)cd $(NGX_DIR) && NGX_CONF_FLAGS=(--with-compat) \
	    && if test -f conf_flags; then source ./conf_flags; fi \
	    && configure=$$(test -x configure && echo ./configure || echo auto/configure) \
	    && $$configure "$${NGX_CONF_FLAGS[@]}" --with-cc='$(CC)' \
	        --with-cc-opt='$(CFLAGS) $(HARDENING)' --with-ld-opt='$(HARDENING) $(LDFLAGS)' \
	        --add-dynamic-module=$(CURDIR) > ../configure.log \
	    || { tail -n 20 ../configure.log; exit 1; }
	@touch $@

# nginx's own make knows best what to rebuild. It gets our flags (-j), but not
# the variables of our command line: CFLAGS would replace its own.
$(NGX_MODULE): $(BUILD)/nginx/configured FORCE
	@+MAKEFLAGS="$${MAKEFLAGS%%-- *}" $(MAKE) -s --no-print-directory -C $(NGX_DIR) \
	    -f objs/Makefile modules
	@test $@ -nt $(NGX_DIR)/objs/$(@F) || { rm -f $@ && cp $(NGX_DIR)/objs/$(@F) $@ && echo '  LINK    $@'; }

# --------------------------------------------------------------- tests ---

test:
	$(MAKE) deps
	$(MAKE) check

# prove reads cmocka's TAP as it reads Perl's. --comments: cmocka says why a
# test failed in comments.
RUN_UNIT = CMOCKA_MESSAGE_OUTPUT=TAP prove --failures --comments --exec '' $(UNIT_PROGRAMS)
RUN_PROVE = prove -It/lib $(PROVE_FLAGS) $(sort $(wildcard t/*.t))
INTEROP_TESTS = $(sort $(wildcard t/interop/*.t))

check: SHELL = /bin/bash
check: all $(UNIT_PROGRAMS)
	@set -o pipefail; t/interop/fetch --check > /dev/null && interop='$(INTEROP_TESTS)'; \
	    { $(RUN_UNIT) && $(RUN_PROVE) $$interop; } 2>&1 | tee $(BUILD)/test.log
	@sed -n 's/^# \(scenarios: \)/\1/p' $(BUILD)/test.log
	@awk -F '[=, ]+' '/^Files=/ { files += $$2; tests += $$4 } \
	    END { print "make test: " tests " tests in " files " files, all passed" }' $(BUILD)/test.log
	@t/interop/fetch --check || true

# Java for Zipkin, Python for a service.
interop:
	$(MAKE) deps EXTRA='ca-certificates default-jre-headless python3-venv unzip'
	t/interop/fetch
	$(MAKE) all
	prove -It/lib $(PROVE_FLAGS) $(INTEROP_TESTS)

# docs/differences.md says where nginx and httpd differ in t/scenarios.
differences:
	@text=$$(perl -It/lib -MEdgespanTest::Scenarios \
	    -e 'print EdgespanTest::Scenarios::differences(EdgespanTest::Scenarios::read_all())') \
	    && echo "$$text" > docs/differences.md

# MATRIX="1.26 clang" chooses the rows with one of these texts in their names,
# MATRIX_SOURCES adds source trees of nginx.
MATRIX =
MATRIX_SOURCES =

matrix:
	$(MAKE) deps EXTRA='$(if $(CLANG),,clang) debian-archive-keyring dpkg-dev libpcre2-dev python3-venv'
	t/matrix/fetch
	MATRIX_SOURCES='$(MATRIX_SOURCES)' t/matrix/run $(MATRIX)

unit: $(UNIT_PROGRAMS)
	$(RUN_UNIT)

$(BUILD)/unit/%: t/unit/%.c $(LIBEDGESPAN)
	@mkdir -p $(@D); echo '  CC      $<'
	$(Q)$(COMPILE) -o $@ $< $(LDFLAGS) $(LIBEDGESPAN) -lcmocka $(LIBS) -lm

# FUZZ="trace http ..." chooses some of them.
FUZZ = $(patsubst t/fuzz/fuzz_%.c,%,$(wildcard t/fuzz/fuzz_*.c))
FUZZ_SECONDS = 60
FUZZERS = $(addprefix $(BUILD)/fuzz_,$(FUZZ))

# The newest that there is.
CLANG = $(lastword $(shell IFS=:; ls $$PATH 2> /dev/null | grep -xE 'clang(-[0-9]+)?' | sort -V))

# Debian has what sanitizers link to in a package of its own.
CLANG_RUNTIME = $(wildcard $(shell $(CLANG) -print-resource-dir 2> /dev/null)/lib/*/libclang_rt.fuzzer*.a)
CLANG_PACKAGES = $(if $(CLANG),,clang) \
	$(if $(CLANG_RUNTIME),,$(patsubst clang%,libclang-rt%-dev,$(or $(CLANG),clang)))

fuzz:
	$(MAKE) deps EXTRA='$(strip $(CLANG_PACKAGES))'
	$(MAKE) fuzzers BUILD=$(BUILD)/fuzz CC='$$(or $$(CLANG),$$(error clang is missing))' \
	    SANITIZE=fuzzer-no-link,address,undefined
	@perl t/fuzz/fuzz.pl $(BUILD)/fuzz $(FUZZ_SECONDS) $(FUZZ)

fuzzers: $(FUZZERS)

$(BUILD)/fuzz_%: t/fuzz/fuzz_%.c $(LIBEDGESPAN)
	@mkdir -p $(@D); echo '  CC      $<'
	$(Q)$(COMPILE) -fsanitize=fuzzer -o $@ $< $(LDFLAGS) $(LIBEDGESPAN) $(LIBS)

$(BUILD)/bench/%: t/bench/%.c $(LIBEDGESPAN)
	@mkdir -p $(@D); echo '  CC      $<'
	$(Q)$(COMPILE) -o $@ $< $(LDFLAGS) $(LIBEDGESPAN) $(LIBS)

bench:
	$(MAKE) deps EXTRA=valgrind
	$(MAKE) all $(BUILD)/bench/throughput
	perl t/bench/bench.pl
	@for delay in 0 50 100; do $(BUILD)/bench/throughput -r 150000 -d $$delay; done
	@$(BUILD)/bench/throughput -p 4 -r 1000000

demo:
	$(MAKE) deps
	$(MAKE) all
	perl examples/demo/demo.pl

# -------------------------------------------------------- dependencies ---

# Servers, compilers, libraries; from perl on for the tests and the demo.
DEBIAN_PACKAGES = nginx nginx-dev apache2-bin apache2-dev gcc libc6-dev make protobuf-c-compiler \
	protobuf-compiler libprotobuf-c-dev libcurl4-openssl-dev libjansson-dev zlib1g-dev libssl-dev libcmocka-dev \
	perl libprotocol-http2-perl curl openssl apache2-utils strace php-fpm $(BESIDE) $(EXTRA)

# Modules of nginx that ours is tested beside, where the release has them.
BESIDE = $(addprefix libnginx-mod-,http-lua http-js http-headers-more-filter http-geoip2 \
	http-image-filter mail stream)

FEDORA_PACKAGES = nginx nginx-mod-devel httpd httpd-devel gcc make protobuf-c-compiler \
	protobuf-compiler protobuf-c-devel libcurl-devel jansson-devel zlib-devel openssl-devel libcmocka-devel \
	perl perl-Protocol-HTTP2 curl openssl httpd-tools strace php-fpm $(EXTRA)
ALPINE_PACKAGES = nginx apache2 apache2-dev build-base bash protobuf-c-compiler protoc \
	protobuf-c-dev curl-dev jansson-dev cmocka-dev pcre2-dev openssl-dev zlib-dev \
	perl perl-utils curl openssl apache2-utils strace $(EXTRA)

# Silent when nothing is missing.
deps:
	@if command -v dpkg-query > /dev/null; then \
	    missing=$$(for package in $(DEBIAN_PACKAGES); do \
	        dpkg-query -W -f '$${Status}' $$package 2> /dev/null | grep -q 'ok installed' \
	            || echo $$package; done); \
	else \
	    missing=$$(for tool in $(CC) prove nginx protoc-c protoc apr-1-config; do \
	        command -v $$tool > /dev/null || echo $$tool; done); \
	fi; \
	test -z "$$missing" && exit; \
	echo missing: $$missing; \
	echo 'Debian, Ubuntu: $(DEBIAN_PACKAGES)'; \
	echo 'Fedora, RHEL:   $(FEDORA_PACKAGES)'; \
	echo 'Alpine:         $(ALPINE_PACKAGES), and NGX_SRC=<nginx source>'; \
	command -v apt-get > /dev/null || exit 1; \
	if test $$(id -u) -ne 0; then sudo='sudo -E'; fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	$$sudo apt-get update || exit 1; \
	for package in $(BESIDE); do \
	    apt-cache show $$package > /dev/null 2>&1 && continue; \
	    echo "$$package: not in this release, t/nginx-beside.t goes without"; \
	    missing=$$(echo $$missing | sed "s/ *$$package//"); \
	done; \
	test -z "$$missing" || $$sudo apt-get install -y --no-install-recommends $$missing

# ---------------------------------------------------------------- rest ---

FORMATTED = $(wildcard core/*.[ch] httpd_module/*.[ch] t/unit/*.[ch] t/bench/*.c t/fuzz/*.[ch])

format:
	$(Q)$(CLANG_FORMAT) -i $(FORMATTED)

# nginx's layout is beyond clang-format: see ngx_module/.clang-format.
format-check:
	$(Q)$(CLANG_FORMAT) --dry-run --Werror $(FORMATTED)
	@! grep -nE '.{81}|	| $$' $(wildcard ngx_module/*.[ch]) /dev/null \
	    || { echo 'ngx_module: over 80 columns, a tab or a trailing blank'; exit 1; }

install: all
	install -D -m 644 $(NGX_MODULE) '$(DESTDIR)$(NGX_MODULES_DIR)/$(notdir $(NGX_MODULE))'
	install -D -m 644 $(HTTPD_MODULE) \
	    '$(DESTDIR)$(shell $(APXS) -q LIBEXECDIR)/$(notdir $(HTTPD_MODULE))'

clean:
	rm -rf $(BUILD) build-*

-include $(CORE_OBJECTS:.o=.d) $(HTTPD_OBJECTS:.o=.d) $(UNIT_PROGRAMS:=.d) $(FUZZERS:=.d)
