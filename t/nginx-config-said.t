# What nginx -t says of a configuration besides yes and no, what it does not say, and
# what it leaves alone.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::NginxConfig;

my $n = tester();

subtest 'a queue that is too small for its processes' => sub {
    my $text = "otel_exporter { $OK queue_size 1m; } otel_trace on;";
    local $n->{workers} = 16;
    my ($ok, $said) = $n->test($text);
    ok !$ok, '16 processes, 1m';
    like $said, qr/\[emerg\] queue_size 1024k is too small for 16 serving processes: it takes 2048k or more, 2 chunks of 64k each in \S+nginx.conf:\d+/,
        'says what it takes';
    local $n->{workers} = 8;
    accepted($text, '8 processes, 1m');
    local $n->{workers} = 'auto';
    accepted("otel_exporter { $OK } otel_trace on;", 'auto, the default');
    local $n->{workers} = 5000;
    ($ok, $said) = $n->test("otel_exporter { $OK } otel_trace on;");
    like $said, qr/\[emerg\] 5000 serving processes: tracing knows at most 4096/,
        'too many';
    accepted('', 'a module that is only loaded limits nothing');
};

subtest 'no exporter' => sub {
    my ($ok, $said) = $n->test('otel_trace on;');
    ok $ok, 'accepted';
    like $said, qr/\[warn\] "otel_trace" without "otel_exporter": spans have no destination/,
        'with a warning';
    accepted('', 'nothing at all');
    accepted('server { otel_trace off; }', 'off');
    accepted('otel_trace_context propagate;',
        'headers alone make no spans: nothing to warn of');
    accepted("otel_trust_context $_;", "nor where they are only removed: $_")
        for qw(off link $arg_x);
};

subtest 'notices, once' => sub {
    my $mark = $n->log_mark;
    my ($ok) = $n->test("otel_exporter { endpoint localhost:4318; batch_count 4; }");
    ok $ok, 'accepted';
    my $log = $n->log_since($mark);
    is scalar(() = $log =~ m{\[notice\] .*endpoint "localhost:4318": spans go to http://localhost:4318/v1/traces as http/protobuf}g),
        1, 'what was inferred' or diag $log;
    is scalar(() = $log =~ /\[notice\] .*"batch_count" is accepted and ignored: the queue is bounded by "queue_size" alone/g),
        1, 'what is ignored';
    my %target = ('http://h:4318' => 'http://h:4318/v1/traces',
        'http://h:4318/' => 'http://h:4318/v1/traces',
        'https://h:4318' => 'https://h:4318/v1/traces',
        'http://h/a/b' => 'http://h/a/b', 'h:80/x' => 'http://h:80/x',
        'http://[::1]:4318' => 'http://[::1]:4318/v1/traces');
    for my $endpoint (sort keys %target) {
        $mark = $n->log_mark;
        $n->test("otel_exporter { endpoint $endpoint; }");
        like $n->log_since($mark), qr/: spans go to \Q$target{$endpoint}\E as /,
            $endpoint;
    }
};

subtest 'warnings about TLS' => sub {
    my $mark = $n->log_mark;
    my ($ok, $said) = $n->test("otel_exporter { $OK trusted_certificate ca.pem; }");
    ok $ok, 'accepted';
    like $said, qr{\[warn\] .*"trusted_certificate" has no effect: http://127\.0\.0\.1:4318/v1/traces is not reached by https://},
        'a certificate without TLS';
    ($ok, $said) = $n->test("otel_exporter { $TLS ssl_verify off; }");
    ok $ok, 'accepted';
    like $said, qr{\[warn\] .*"ssl_verify off": whoever answers as https://example\.com/otlp gets the spans and headers},
        'no verification';
};

subtest 'the directory of a spool' => sub {
    my $spool = $n->prefix . '/data/made';
    accepted("otel_exporter { $OK spool $spool; } otel_trace on;", 'is made');
    is sprintf('%o', (stat $spool)[2] & 07777), '700', 'for one user alone';
    for my $case ([ "$spool/a/b", qr{cannot be made: No such file or directory} ],
        [ $n->prefix . '/ca.pem', qr/is no directory/ ]) {
        my ($ok, $said) = $n->test("otel_exporter { $OK spool $case->[0]; } otel_trace on;");
        ok !$ok, 'refused';
        like $said, qr/\[emerg\] .*"spool" \Q$case->[0]\E $case->[1]/, 'and why';
    }
    SKIP: {
        skip 'only root changes users', 1 if $> != 0;
        my $other = $n->prefix . '/data/other';
        local $n->{user} = 'nobody ' . getgrgid((getpwnam 'nobody')[3]);
        accepted("otel_exporter { $OK spool $other; } otel_trace on;", 'user nobody');
        is getpwuid((stat $other)[4]), 'nobody', 'it is the worker\'s';
    }
};

subtest 'secrets are not logged' => sub {
    my $mark = $n->log_mark;
    my ($ok, $said) = $n->test('otel_exporter { '
        . 'endpoint http://user:s3cret@127.0.0.1:4318/v1/traces; '
        . 'header Authorization "Bearer t0ken"; }');
    my $all = $said . $n->log_since($mark);
    unlike $all, qr/t0ken/, 'a header';
    unlike $all, qr/s3cret/, 'a password in the endpoint';
    ($ok, $said) = $n->test('otel_exporter { header "A b" t0ken; }');
    unlike $said, qr/t0ken/, 'a header that is refused';
    $mark = $n->log_mark;
    for my $file (qw(token two)) {
        ($ok, $said) = $n->test("otel_exporter { $OK header_file X $file; header_file 'A b' $file; }");
        ok !$ok, "$file: refused";
        unlike $said . $n->log_since($mark), qr/t0ken/, 'a file';
    }
};

subtest 'nginx -t leaves nothing behind and touches nothing' => sub {
    my $c = EdgespanTest::Collector->new;
    my %before = map { $_ => 1 } glob('/dev/shm/*'), children_of($$);
    my $file = $n->prefix . '/data/spans.jsonl';
    accepted("otel_exporter { endpoint @{[ $c->url ]}; } "
        . "otel_exporter { endpoint file://$file; } otel_trace on; "
        . 'server { listen 127.0.0.1:%%PORT%%; }', 'a good configuration');
    ok !-e $file, 'the file is not made';
    is scalar(my @r = $c->requests), 0, 'nothing is sent';
    is_deeply [ grep { !$before{$_} } glob('/dev/shm/*'), children_of($$) ],
        [], 'no process, no shared memory';
    is_deeply [ $n->leftovers ], [], 'no System V objects';
};

# It never ran: finish() would have nothing to look at.
done_testing;
