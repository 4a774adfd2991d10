# The error log: lines of a request say of which trace and span they are, and
# become events of its span where otel_error_events asks for that.

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket;
use Test::More;

use EdgespanTest;
use EdgespanTest::Certificates;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

# What nginx has stored of a body cannot be removed any more: a directory takes its place.
my $up = EdgespanTest::Upstream->new(respond => sub {
    my ($file) = $_[0] =~ /^X-Body: (.*)\r$/m;
    unlink $file and mkdir $file;
    return EdgespanTest::Upstream::http_response();
});

my $certificates = EdgespanTest::Certificates->new;
$certificates->authority('ca');
$certificates->authority('other');
$certificates->certificate('server', 'ca');

my $includes = join '', map {qq{<!--# include virtual="/none/$_" -->}} 1 .. 20;

my $n = EdgespanTest::NginxTraced->new(
    files => { 'html/page' => $includes,
        'html/mixed' => '<!--# include virtual="/none/mixed" --><!--# include virtual="/quiet/mixed" -->', 'html/ok' => "ok\n" },
    vars => { CERT => $certificates->dir, UP => $up->address }, allow => qr/unlink\(\) .* failed/,
    http => <<'CONF');
limit_req_zone $server_port zone=one:1m rate=1r/m;
ssl_certificate %%CERT%%/server.pem;
ssl_certificate_key %%CERT%%/server.key;

server {
    listen 127.0.0.1:%%PORT1%%;
    listen 127.0.0.1:%%PORT2%% http2;
    otel_error_events on;
    location / { root %%PREFIX%%/html; }
    location /quiet { otel_error_events off; }
    location /untraced { otel_trace off; otel_error_events on; }
    location /unsampled { otel_sampler always_off; }
    location /kept { otel_sampler always_off; otel_sample_keep error; return 500; error_page 500 /none/500; }
    location /refused { proxy_pass http://127.0.0.1:%%PORT9%%; }
    location /limited { limit_req zone=one; }
    location /body { client_max_body_size 10; proxy_pass http://127.0.0.1:%%PORT9%%; }
    location /tls { proxy_ssl_verify on; proxy_ssl_name localhost;
        proxy_ssl_trusted_certificate %%CERT%%/other.pem; proxy_pass https://127.0.0.1:%%PORT3%%; }
    location /stored { rewrite_log on; rewrite ^/stored$ / break; client_body_in_file_only clean;
        proxy_set_header X-Body $request_body_file; proxy_pass http://%%UP%%; }
    location /crit { error_log %%PREFIX%%/crit.log crit; }
    location /own { error_log %%PREFIX%%/own.log error; }
    location /two { error_log %%PREFIX%%/loud.log error; error_log %%PREFIX%%/soft.log crit;
        error_log %%PREFIX%%/more.log warn; }
    location /syslog { error_log syslog:server=unix:%%PREFIX%%/run/syslog,nohostname error; }
    location /moved { error_log %%PREFIX%%/own.log error; error_page 404 = @moved; }
    location @moved { error_log %%PREFIX%%/moved.log error; root %%PREFIX%%/html/moved; }
    location /auth { auth_request /check; root %%PREFIX%%/html; }
    location = /check { error_page 404 = /allowed; root %%PREFIX%%/html/check; }
    location = /allowed { return 204; }
    location /none { root %%PREFIX%%/html; }
    location /page { ssi on; ssi_types text/plain; }
    location /mixed { ssi on; ssi_types text/plain; }
}
server {
    listen 127.0.0.1:%%PORT3%% ssl;
    otel_trace off;
    location / { return 200 tls; }
}
CONF
my $syslog = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $n->prefix . '/run/syslog')
    or die "syslog: $!";
chmod 0777, $n->prefix . '/run/syslog';
$n->start;

# The ids at the end of a line.
my $ids = qr/, trace_id: ([0-9a-f]{32}), span_id: ([0-9a-f]{16})$/m;

# The lines of a file that the code wrote, with $words in them; the SERVER span.
sub logged {
    my ($file, $words, $code) = @_;
    $file = $n->prefix . "/$file";
    my $mark = -s $file // 0;
    my ($answer, $record) = $n->recorded($code);
    my @lines = grep {/$words/} split /\n/, substr(slurp($file) // '', $mark);
    return (\@lines, $record, $answer);
}

sub events { return grep { $_->{name} eq 'edgespan.log' } @{ $_[0]{events} } }

# One line with the ids of its request, and the event of it.
sub correlated {
    my ($what, $words, $code, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return subtest $what => sub {
        my ($lines, $record) = logged($opt{file} // 'error.log', $words, $code);
        is scalar @$lines, 1, 'one line' or diag join "\n", @$lines;
        my ($trace, $span) = ($lines->[0] // '') =~ $ids;
        is $trace, $record->{trace}, 'its trace';
        is $span, $record->{span}, 'its span' unless $opt{sub};
        my $server = $n->server_span($record);
        my @events = grep { $_->{attrs}{'log.message'} =~ $words } events($server);
        is scalar @events, 1, 'one event' or diag explain $server->{events};
        my $event = $events[0];
        is $event->{attrs}{'log.severity'}, $opt{severity} // 'error', 'its severity';
        unlike $event->{attrs}{'log.message'},
            qr/, client: |, request: |^\d{4}\/|\d#\d|trace_id|\n/, 'nothing that the span says anyway';
        cmp_ok $event->{time}, '>=', $server->{start}, 'not before the span';
        cmp_ok $event->{time}, '<=', $server->{end}, 'nor after it';
        if ($opt{sub}) {
            my @spans = $n->trace($record, 2);
            my ($internal) = grep { $_->{kind} eq 'INTERNAL' } @spans;
            is $span, $internal->{span_id}, 'the span is that of the subrequest';
        }
    };
}

my $port = $n->port(1);
correlated('a file that is not there', qr/^(?:.*: \*\d+ )?open\(\) "\S+\/none\/a" failed \(2: No such file or directory\)/,
    sub { http_get($port, '/none/a') });
correlated('an upstream that refuses', qr/connect\(\) failed \(111: [\w ]+\) while connecting to upstream/,
    sub { http_get($port, '/refused') });
http_get($port, '/limited');
correlated('limit_req', qr/limiting requests, excess: \S+ by zone "one"/,
    sub { http_get($port, '/limited') });
correlated('a body that is too large, on its way', qr/client intended to send too large chunked body/,
    sub { http_get($port, '/body', method => 'POST', headers => [ [ 'Transfer-Encoding', 'chunked' ] ],
        body => "40\r\n" . 'x' x 64 . "\r\n0\r\n\r\n") });
correlated('an upstream whose certificate is not trusted', qr/upstream SSL certificate verify error/,
    sub { http_get($port, '/tls') });
correlated('a log of its own', qr/open\(\) "\S+\/own" failed/,
    sub { http_get($port, '/own') }, file => 'own.log');
correlated('several logs', qr/open\(\) "\S+\/two" failed/,
    sub { http_get($port, '/two') }, file => $_) for qw(loud.log more.log);
correlated('a subrequest', qr/open\(\) "\S+\/check\/check" failed/,
    sub { http_get($port, '/auth') }, sub => 1);
correlated('HTTP/2', qr/open\(\) "\S+\/none\/h2" failed/,
    sub { my $url = 'http://127.0.0.1:' . $n->port(2) . '/none/h2';
        `curl -s --http2-prior-knowledge $url` });

subtest 'a log that wants less' => sub {
    my ($lines, $record) = logged('crit.log', qr/./, sub { http_get($port, '/crit') });
    is_deeply $lines, [], 'has nothing of it';
    is_deeply [ events($n->server_span($record)) ], [], 'and there is no event';
    ok !(slurp($n->prefix . '/soft.log') // ''), 'a log beside others keeps its level';
};

subtest 'syslog' => sub {
    my ($answer, $record) = $n->recorded(sub { http_get($port, '/syslog') });
    my $text = '';
    my $got = eval {
        local $SIG{ALRM} = sub { die "nothing came\n" };
        alarm 30;
        defined $syslog->recv($text, 8192);
    };
    alarm 0;
    ok $got, 'a line came' or diag $@;
    like $text, qr/^<\d+>.*open\(\) "\S+\/syslog" failed/, 'of the request';
    my ($trace, $span) = $text =~ $ids;
    is "$trace $span", "$record->{trace} $record->{span}", 'with its ids';
    is scalar(my @e = events($n->server_span($record))), 1, 'and as an event';
};

subtest 'a redirect to another place with another log' => sub {
    my ($lines, $record) = logged('own.log', qr/open\(\) "\S+\/html\/moved" failed/,
        sub { http_get($port, '/moved') });
    is scalar @$lines, 1, 'the log of the first place';
    my ($second) = grep {/$record->{trace}/} split /\n/, slurp($n->prefix . '/moved.log') // '';
    like $second // '', qr/open\(\) "\S+\/moved\/moved" failed.*, span_id: $record->{span}$/, 'that of the second';
    is_deeply [ map { $_->{attrs}{'log.message'} =~ m{html/(\S+)"} } events($n->server_span($record)) ],
        [ 'moved', 'moved/moved' ], 'both are events, in order';
};

subtest 'more lines than a span takes' => sub {
    my ($lines, $record) = logged('error.log', qr/open\(\) "\S+\/none\/\d+" failed/,
        sub { http_get($port, '/page') });
    is scalar @$lines, 20, 'all are in the log';
    is scalar(grep {/, trace_id: $record->{trace}, span_id: [0-9a-f]{16}$/} @$lines), 20, 'of that trace';
    my $server = $n->server_span($record);
    is scalar(my @e = events($server)), 16, 'events are 16';
    is $server->{attrs}{'edgespan.log.dropped'}, 4, 'the others are counted';
};

subtest 'a subrequest to a place that wants no events' => sub {
    my ($lines, $record) = logged('error.log', qr/open\(\) "\S+\/mixed" failed/, sub { http_get($port, '/mixed') });
    is scalar @$lines, 2, 'both lines are in the log';
    my @events = events($n->server_span($record));
    is_deeply [ map { $_->{attrs}{'log.message'} =~ m{html/(\w+)/mixed"} } @events ], ['none'], 'one is an event';
};

subtest 'a long line' => sub {
    my $path = '/none/' . 'x' x 1500 . ', client: me, request: "';
    my ($lines, $record) = logged('error.log', qr/File name too long|xxxxx/,
        sub { http_get($port, $path =~ s/([ "])/sprintf '%%%02x', ord $1/ger) });
    my ($line) = grep {/open\(\)/} @$lines;
    my ($trace, $span) = ($line // '') =~ $ids;
    is "$trace $span", "$record->{trace} $record->{span}", 'what is lost of it are not the ids';
    my ($event) = events($n->server_span($record));
    is length $event->{attrs}{'log.message'}, 512, 'the event has the beginning';
    like $event->{attrs}{'log.message'}, qr/^open\(\) "/, 'of the message';

    ($lines, $record) = logged('error.log', qr/ client: me/,
        sub { http_get($port, '/none/a,%20client:%20me') });
    ($event) = events($n->server_span($record));
    like $event->{attrs}{'log.message'}, qr{/a, client: me" failed \(2: No such file or directory\)$},
        'what a client writes does not end it';
};

subtest 'where there is nothing to say' => sub {
    my ($lines, $record) = logged('error.log', qr/untraced/, sub { http_get($port, '/untraced') });
    # The access log of this test asks for the id, after the request.
    is scalar @$lines, 1, 'a line';
    unlike $lines->[0], qr/trace_id/, 'that is of no trace: nothing is traced';
    ($lines, $record) = logged('error.log', qr/too large body/,
        sub { http_get($port, '/body', method => 'POST', body => 'x' x 20) });
    unlike $lines->[0], qr/trace_id/, 'that is of no trace: it came before the ids were fixed';
    is scalar(my @e = events($n->server_span($record))), 1, 'but an event';
    ($lines, $record) = logged('error.log', qr/quiet/, sub { http_get($port, '/quiet') });
    like $lines->[0], $ids, 'otel_error_events off: ids';
    is_deeply [ events($n->server_span($record)) ], [], 'and no event';
    ($lines, $record) = logged('error.log', qr/unsampled/, sub { http_get($port, '/unsampled') });
    is +($lines->[0] =~ $ids)[0], $record->{trace}, 'not sampled: others may have recorded it';
    ($lines, $record) = logged('error.log', qr/none\/500/, sub { http_get($port, '/kept') });
    is scalar(@e = events($n->server_span($record))), 1, 'not sampled but kept in the end: the event is there';
};

subtest 'a connection that outlives its request' => sub {
    my $mark = $n->log_mark;
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die $!;
    for my $round (1 .. 3) {
        syswrite $sock, "GET /none/keep$round HTTP/1.1\r\nHost: x\r\n\r\n";
        sysread $sock, my $answer, 65536;
        like $answer, qr/^HTTP\/1.1 404/, "request $round";
    }
    syswrite $sock, "NONSENSE\r\n\r\n";
    sysread $sock, my $answer, 65536;
    $n->wait_log(qr/client sent invalid/, 10, $mark);
    my @lines = split /\n/, $n->log_since($mark);
    my @traces = map { /keep/ && $_ =~ $ids ? $1 : () } @lines;
    is scalar @traces, 3, 'each line has the ids';
    my %traces = map { $_ => 1 } @traces;
    is scalar keys %traces, 3, 'of its own request';
    unlike +(grep {/client sent invalid/} @lines)[0], qr/trace_id/, 'what comes after has none';
};

# The last line of the request itself is no event, so nobody has taken it yet.
subtest 'a line that is written when the request is gone' => sub {
    my ($lines, $record, $answer) = logged('error.log', qr/\/stored/,
        sub { http_get($port, '/stored', method => 'POST', body => 'body') });
    is $answer->{status}, 200, 'the answer';
    ok +(grep {/\[notice\].* matches "\/stored"/ && /$ids/} @$lines), 'a line of the request';
    $n->wait_log(qr/\[crit\].*unlink\(\) .* failed/, 10);
    is_deeply [ events($n->server_span($record)) ], [], 'no event';
    is http_get($port, '/ok')->{status}, 200, 'the next request is served';
};

$n->lint;
$n->finish;
done_testing;
