# What reaches an upstream: the context headers, once each and with the id of a
# span, and everything else as if we were not there.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

# $T stands for a trace id that is another one in each request.
my ($T, $P) = ('12345678901234567890123456789012', 'fedcba9876543210');
my ($B1, $B0) = ("00-$T-$P-01", "00-$T-$P-00");
my ($fresh, $serial) = ('', 0);

my $up = EdgespanTest::Upstream->new;
my %cgi = map { $_ => EdgespanTest::Upstream->new(protocol => $_) }
    qw(fastcgi scgi uwsgi);

# The same for nginx with the module and without it.
my $plain = <<'CONF';
proxy_http_version 1.1;
server {
    listen 127.0.0.1:%%PORT1%%;
    location /off/ { %%OFF%% proxy_pass http://%%UP%%; }
    location /off/fcgi { %%OFF%% fastcgi_pass %%FASTCGI%%;
        fastcgi_param URI $request_uri; }
}
CONF

my %vars = (UP => $up->address, map { uc $_ => $cgi{$_}->address } keys %cgi);
my $bare = EdgespanTest::Nginx->new(module => 0, http => $plain,
    vars => { %vars, OFF => '' })->start;

my $n = EdgespanTest::NginxTraced->new(
    vars => { %vars, OFF => 'otel_trace off;' },
    files => { 'html/ssi/page' => '<!--# include virtual="/ssi1/" -->'
        . '<!--# include virtual="/ssi2/" -->' },
    http => $plain . <<'CONF');
server {
    listen 127.0.0.1:%%PORT2%%;
    listen 127.0.0.1:%%PORT3%% http2;
    location / { proxy_pass http://%%UP%%; }
    location /seen { proxy_pass http://%%UP%%;
        proxy_set_header X-Seen "$http_host|$host|$http_user_agent|$http_cookie|$cookie_a|$proxy_add_x_forwarded_for|$http_x_last"; }
    location /extract { otel_trace_context extract; proxy_pass http://%%UP%%; }
    location /inject { otel_trace_context inject; proxy_pass http://%%UP%%; }
    location /ignore { otel_trace_context ignore; proxy_pass http://%%UP%%; }
    location /part { otel_trace off; otel_trace_context propagate;
        proxy_pass http://%%UP%%; }
    location /never { otel_sample_rate 0; proxy_pass http://%%UP%%; }
    location /noheaders { proxy_pass_request_headers off;
        proxy_set_header traceparent $otel_traceparent; proxy_pass http://%%UP%%; }
    location /twice { proxy_set_header TraceParent $otel_traceparent;
        proxy_pass http://%%UP%%; }
    location /removed { proxy_set_header traceparent "";
        proxy_pass http://%%UP%%; }
    location /nospan { otel_upstream_span off; proxy_pass http://%%UP%%; }
    location /auth { auth_request /check; proxy_pass http://%%UP%%;
        proxy_set_header X-Up $otel_upstream_span_id; }
    location = /check { internal; proxy_pass http://%%UP%%;
        proxy_set_header X-Up $otel_upstream_span_id; }
    location /mirror { mirror /mirrored; proxy_pass http://%%UP%%; }
    location = /mirrored { internal; proxy_pass http://%%UP%%; }
    location /ssi/ { ssi on; ssi_types text/plain; alias %%PREFIX%%/html/ssi/; }
    location /ssi1/ { proxy_pass http://%%UP%%; }
    location /ssi2/ { proxy_pass http://%%UP%%; }
    location /fastcgi { fastcgi_pass %%FASTCGI%%; fastcgi_param URI $uri; }
    location /scgi { scgi_pass %%SCGI%%; scgi_param URI $uri; }
    location /uwsgi { uwsgi_pass %%UWSGI%%; uwsgi_param URI $uri; }
    location /grpc { grpc_pass grpc://127.0.0.1:%%PORT4%%; }
    location = /vars { return 200 "%%ALL%%"; }
    location = /novars { otel_trace off; return 200 "%%ALL%%"; }
    location = /zero { otel_trace $arg_on; return 200 "%%ALL%%"; }
}
server {
    listen 127.0.0.1:%%PORT4%% http2;
    otel_trace off;
    location / { return 200 "<$http_traceparent><$http_tracestate>"; }
}
CONF
my @vars = qw(trace_id span_id parent_id parent_sampled sampled trace_flags
    traceparent upstream_span_id);
$n->{vars}{ALL} = join ' ', map {"$_=<\$otel_$_>"} @vars;
$n->start;
my $port = $n->port(2);

sub fresh {
    my ($headers) = @_;
    $fresh = sprintf 'abcdef%026x', ++$serial;
    return [ map { [ $_->[0], $_->[1] =~ s/$T/$fresh/r ] } @$headers ]
        if ref $headers;
    return $headers =~ s/$T/$fresh/r;
}

# Sends a request, its headers being a list of [name, value] or a raw text, and
# returns what came to $want upstreams.
sub reach {
    my ($path, $headers, $want) = @_;
    my $before = $up->requests;
    $want //= 1;
    if (ref $headers) { http_get($port, $path, headers => fresh($headers)) }
    else { http_raw($port, fresh($headers)) }
    my @all = $up->wait_requests($before + $want);
    return @all[ $before .. $#all ];
}

sub values_of { return EdgespanTest::Upstream::header_values(@_) }

# Exactly one valid traceparent in each, whose parent-id is that of a CLIENT
# span under the SERVER span or under the INTERNAL one of a subrequest, of which
# there are $want{internal}; returns the SERVER span.
sub spans_agree {
    my ($requests, %want) = @_;
    my (%id, $trace, $server);
    for my $bytes (@$requests) {
        my @tp = values_of($bytes, 'traceparent');
        is @tp, 1, 'one traceparent' or diag $bytes;
        like $tp[0], qr/^00-[0-9a-f]{32}-[0-9a-f]{16}-$want{flags}$/, 'valid';
        ($trace, my $parent) = (split /-/, $tp[0])[1, 2];
        ok !$id{$parent}++, 'an id of its own';
        is join('|', values_of($bytes, 'tracestate')), $want{state} // '',
            'tracestate';
    }
    is $trace eq $fresh ? 'same' : 'new', $want{trace} // 'new', 'trace';
    my $internal = $want{internal} // 0;
    my %kind;
    push @{ $kind{ $_->{kind} } }, $_
        for $n->trace($trace, 1 + $internal + keys %id);
    my ($s, @more) = @{ $kind{SERVER} };
    is @more, 0, 'one SERVER span';
    my @above = ($s, @{ $kind{INTERNAL} || [] });
    is @above, 1 + $internal, 'INTERNAL spans';
    is $_->{parent_span_id}, $s->{span_id}, 'below the SERVER span'
        for @above[ 1 .. $#above ];
    my @clients = @{ $kind{CLIENT} };
    is join(' ', sort map { $_->{span_id} } @clients), join(' ', sort keys %id),
        'the CLIENT spans are the parents that were sent';
    my %above = map { $_->{span_id} => 0 } @above[ @above > @clients .. $#above ];
    $above{ $_->{parent_span_id} }++ for @clients;
    is join(' ', values %above), join(' ', (1) x @clients), 'each below its own';
    is $s->{parent_span_id}, $want{trace} ? $P : '', 'parent of all';
    return $s;
}

my $long = join ',', map { sprintf 'v%02d=%s', $_, 'x' x 40 } 1 .. 31;
my @many = map { [ "X-H$_", $_ ] } 1 .. 100;
# [name, headers, flags, trace kept, tracestate]
my @case = (
    [ 'nothing came: a new trace', [], '03' ],
    [ 'a context is continued', [ [ traceparent => $B1 ] ], '01', 'same' ],
    [ 'with its tracestate', [ [ traceparent => $B1 ], [ tracestate => 'a=1,b=2' ] ],
        '01', 'same', 'a=1,b=2' ],
    [ 'the random flag is kept', [ [ traceparent => "00-$T-$P-03" ] ], '03', 'same' ],
    [ 'reserved flags are not', [ [ traceparent => "00-$T-$P-fd" ] ], '01', 'same' ],
    [ 'a later version comes down', [ [ traceparent => "cc-$T-$P-01-x" ] ], '01', 'same' ],
    [ 'any case of the name', [ [ TrAcEpArEnT => $B1 ], [ TRACESTATE => 'a=1' ] ],
        '01', 'same', 'a=1' ],
    [ 'blanks around the value', [ [ traceparent => "\t $B1 \t" ] ], '01', 'same' ],
    [ 'a long tracestate', [ [ traceparent => $B1 ], [ tracestate => $long ] ],
        '01', 'same', $long ],
    [ 'an empty tracestate is not sent', [ [ traceparent => $B1 ], [ tracestate => '' ] ],
        '01', 'same' ],
    [ 'two tracestate fields become one', [ [ tracestate => 'a=1' ],
        [ traceparent => $B1 ], [ 'X-Y' => 1 ], [ Tracestate => 'b=2' ] ],
        '01', 'same', 'a=1,b=2' ],
    [ 'an invalid tracestate is removed', [ [ traceparent => $B1 ],
        [ tracestate => 'a=b=c' ] ], '01', 'same' ],
    [ 'duplicates of traceparent', [ [ traceparent => $B1 ],
        [ tracestate => 'a=1' ], [ Traceparent => $B0 ] ], '03' ],
    [ 'an invalid traceparent, and tracestate goes with it',
        [ [ traceparent => "$B1-x" ], [ tracestate => 'a=1' ] ], '03' ],
    [ 'upper-case digits', [ [ traceparent => '00-' . 'A' x 32 . "-$P-01" ] ], '03' ],
    [ 'tracestate alone', [ [ tracestate => 'a=1' ], [ tracestate => 'b=2' ] ], '03' ],
    [ '200 headers, the context in their middle', [ @many,
        [ traceparent => $B1 ], [ tracestate => 'a=1' ], @many ], '01',
        'same', 'a=1' ],
    [ '200 headers, duplicates far apart', [ [ traceparent => $B1 ], @many,
        [ tracestate => 'a=1' ], @many, [ traceparent => $B1 ] ], '03' ],
);

for my $case (@case) {
    my ($what, $headers, $flags, $trace, $state) = @$case;
    subtest $what => sub {
        my ($bytes) = reach('/x', $headers);
        spans_agree([$bytes], flags => $flags, state => $state,
            $trace ? (trace => $trace) : ());
        my %others = map { $_->[0] => $_->[1] } grep { $_->[0] =~ /^X-/ }
            @$headers;
        my @lost = grep { !grep { $_ eq $others{$a} } values_of($bytes, $a) }
            map { $a = $_ } keys %others;
        is "@lost", '', 'no other header is lost';
    };
}

subtest 'HTTP/1.0, 0.9 and 2 clients' => sub {
    for my $raw ("GET /x HTTP/1.0\r\n\r\n", "GET /x\r\n",
        "GET /x HTTP/1.0\r\ntraceparent: $B1\r\n\r\n") {
        my ($bytes) = reach('/x', $raw);
        my $continued = $raw =~ /traceparent/;
        spans_agree([$bytes], flags => $continued ? '01' : '03',
            $continued ? (trace => 'same') : ());
    }
    my $before = $up->requests;
    my $sent = fresh($B1);
    system 'curl', qw(-s -o /dev/null --noproxy * --http2-prior-knowledge),
        '-H', "traceparent: $sent", '-H', 'tracestate: a=1',
        'http://127.0.0.1:' . $n->port(3) . '/x';
    my @all = $up->wait_requests($before + 1);
    spans_agree([ $all[-1] ], flags => '01', trace => 'same', state => 'a=1');
};

subtest 'what is not sampled is not recorded, and says so' => sub {
    my $spans = my @before = $n->collector->spans;
    for my $case ([ '/x', [ [ traceparent => $B0 ], [ tracestate => 'a=1' ] ],
            "00-$T-[0-9a-f]{16}-00", 'a=1' ],
        [ '/x', [ [ traceparent => "00-$T-$P-02" ] ],
            "00-$T-[0-9a-f]{16}-02", '' ],
        [ '/never', [], '00-[0-9a-f]{32}-[0-9a-f]{16}-02', '' ],
        [ '/part', [ [ traceparent => $B1 ] ], "00-$T-[0-9a-f]{16}-00", '' ],
    ) {
        my ($path, $headers, $tp, $state) = @$case;
        my ($bytes) = reach($path, $headers);
        my @tp = values_of($bytes, 'traceparent');
        is @tp, 1, "$path: one traceparent";
        $tp =~ s/$T/$fresh/;
        like $tp[0], qr/^$tp$/, 'as it should be';
        unlike $tp[0], qr/$P/, 'with an id of ours';
        is join('|', values_of($bytes, 'tracestate')), $state, 'tracestate';
    }
    # Whatever were pushed would be at the collector before this one is.
    my ($last) = reach('/x', []);
    spans_agree([$last], flags => '03');
    is scalar(my @now = $n->collector->spans), $spans + 2, 'no span';
};

subtest 'otel_trace_context' => sub {
    my @sent = ([ TraceParent => $B1 ], [ tracestate => 'a=1' ]);
    my ($bytes) = reach('/inject', \@sent);
    spans_agree([$bytes], flags => '03');
    for my $mode (qw(extract ignore)) {
        my ($value, $record) = $n->recorded(sub { (reach("/$mode", \@sent))[0] });
        my $sent = $B1 =~ s/$T/$fresh/r;
        is join('|', values_of($value, 'traceparent')), $sent,
            "$mode: what the client sent goes on";
        like $value, qr/^TraceParent: $sent\r\ntracestate: a=1\r\n/m, 'as it came';
        is $record->{trace} eq $fresh ? 'same' : 'new',
            $mode eq 'extract' ? 'same' : 'new', 'trace';
    }
};

subtest 'a subrequest has a list of its own (shallow copy)' => sub {
    # With 20 headers a part of nginx's list is full: both sides of that.
    for my $count (0, 1, 17 .. 23, 45) {
        for my $context ([], [ [ traceparent => $B1 ] ],
            [ [ traceparent => $B1 ], [ traceparent => $B1 ] ]) {
            my @requests = reach('/auth', [ @$context, @many[ 0 .. $count - 1 ] ],
                2);
            my ($auth, $main) = @requests;
            my $same = @$context == 1;
            my $good = subtest "$count headers and " . @$context => sub {
                like $auth, qr{^GET /check }, 'auth_request first';
                like $main, qr{^GET /auth }, 'then the request';
                spans_agree(\@requests, flags => $same ? '01' : '03',
                    internal => 1, $same ? (trace => 'same') : ());
                for my $bytes (@requests) {
                    my ($tp) = values_of($bytes, 'traceparent');
                    is +(values_of($bytes, 'X-Up'))[0], (split /-/, $tp)[2],
                        'variables are not cached';
                    is scalar(grep { values_of($bytes, "X-H$_") } 1 .. $count),
                        $count, 'all other headers';
                }
            };
            return unless $good;
        }
    }
};

subtest 'mirror' => sub {
    my @requests = reach('/mirror', [ [ traceparent => $B1 ] ], 2);
    is_deeply [ sort map {m{^GET (\S+)}} @requests ], [qw(/mirror /mirrored)],
        'both came';
    spans_agree(\@requests, flags => '01', trace => 'same', internal => 1);
};

subtest 'SSI includes' => sub {
    my @requests = reach('/ssi/page', [], 2);
    spans_agree(\@requests, flags => '03', internal => 2);
};

subtest 'variables where headers are not sent on' => sub {
    my ($bytes) = reach('/noheaders', [ [ traceparent => $B1 ],
        [ 'X-Mine' => 1 ] ]);
    unlike $bytes, qr/X-Mine/, 'proxy_pass_request_headers off';
    spans_agree([$bytes], flags => '01', trace => 'same');
    ($bytes) = reach('/twice', []);
    spans_agree([$bytes], flags => '03');
    ($bytes) = reach('/removed', [ [ traceparent => $B1 ] ]);
    is join('|', values_of($bytes, 'traceparent')), '', 'removed on demand';
};

subtest 'otel_upstream_span off: the SERVER span is the parent' => sub {
    my ($bytes, $record) = $n->recorded(sub { (reach('/nospan', []))[0] });
    is +(values_of($bytes, 'traceparent'))[0],
        "00-$record->{trace}-$record->{span}-03", 'traceparent';
    $n->server_span($record);
    is scalar(my @all = $n->trace($record)), 1, 'no CLIENT span';
};

for my $protocol (sort keys %cgi) {
    subtest "$protocol: HTTP_TRACEPARENT once" => sub {
        for my $case ([ [ TraceParent => $B1 ], [ tracestate => 'a=1' ] ],
            [ [ traceparent => $B1 ], [ tracestate => 'a=1' ],
              [ Traceparent => $B0 ] ], []) {
            my $before = $cgi{$protocol}->requests;
            is http_get($port, "/$protocol", headers => fresh($case))->{body}, "ok\n",
                'answered';
            my $got = $cgi{$protocol}->params(
                ($cgi{$protocol}->wait_requests($before + 1))[-1]);
            is_deeply $got->{URI}, ["/$protocol"], 'decoded';
            my $same = @$case == 2;
            is_deeply $got->{HTTP_TRACESTATE}, $same ? ['a=1'] : undef,
                'HTTP_TRACESTATE';
            my @tp = @{ $got->{HTTP_TRACEPARENT} || [] };
            is @tp, 1, 'HTTP_TRACEPARENT';
            spans_agree([ "X: y\r\ntraceparent: $tp[0]\r\n\r\n" ],
                flags => $same ? '01' : '03', $same ? (trace => 'same') : ());
        }
    };
}

subtest 'grpc_pass' => sub {
    my $body = http_get($port, '/grpc', headers => fresh([
        [ traceparent => $B1 ], [ tracestate => 'a=1' ] ]))->{body};
    like $body, qr/^<00-$fresh-[0-9a-f]{16}-01><a=1>$/, 'both headers';
    $body = http_get($port, '/grpc', headers => [ [ traceparent => 'x' ],
        [ tracestate => 'a=1' ] ])->{body};
    my ($tp) = $body =~ /^<(00-[0-9a-f]{32}-[0-9a-f]{16}-03)><>$/;
    ok $tp, 'a new trace' or diag $body;
    spans_agree([ "X: y\r\ntraceparent: $tp\r\n\r\n" ], flags => '03');
};

subtest 'tracing off: byte for byte as without the module' => sub {
    my @requests = map {"GET /off/x HTTP/1.1\r\nHost: a\r\n$_\r\n"} '',
        "TraceParent: $B1\r\nx-b: 1\r\ntracestate:  a=1 \r\nTracestate: b=2\r\n",
        "traceparent: x\r\ntraceparent: y\r\n",
        "User-Agent: z\r\nCookie: a=1\r\nX-Forwarded-For: 1.2.3.4\r\n";
    push @requests, "GET /off/x\r\n", "HEAD /off/%41?q HTTP/1.0\r\n\r\n",
        "POST /off/x HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nabc",
        "GET /off/fcgi HTTP/1.1\r\nHost: c\r\ntraceparent: $B1\r\n\r\n";
    for my $raw (@requests) {
        my $to = $raw =~ /fcgi/ ? $cgi{fastcgi} : $up;
        my @got;
        for my $server ($n, $bare) {
            my $before = $to->requests;
            http_raw($server->port(1), $raw =~ s/(HTTP.*?\r\n)/$1Connection: close\r\n/r);
            push @got, ($to->wait_requests($before + 1))[-1];
        }
        is $got[0], $got[1], $raw =~ s/\r\n.*//sr;
    }
};

subtest 'headers that nginx points at, after the list was rebuilt' => sub {
    my ($bytes) = reach('/seen', [ [ traceparent => $B1 ],
        [ Host => 'A.example:81' ], [ 'User-Agent' => 'ua' ],
        [ tracestate => 'a=1' ], @many, [ Cookie => 'a=7; b=8' ],
        [ 'X-Forwarded-For' => '192.0.2.1' ], [ traceparent => $B1 ],
        [ 'X-Last' => 'z' ] ]);
    is +(values_of($bytes, 'X-Seen'))[0], 'A.example:81|a.example|ua|a=7; b=8|'
        . '7|192.0.2.1, 127.0.0.1|z', 'variables';
    is +(values_of($bytes, $_->[0]))[0], $_->[1], "sent $_->[0]"
        for [ 'User-Agent' => 'ua' ], [ Cookie => 'a=7; b=8' ],
            [ 'X-Forwarded-For' => '192.0.2.1' ];
    is scalar(my @tp = values_of($bytes, 'traceparent')), 1, 'rebuilt';
};

sub vars {
    my ($path, @headers) = @_;
    return { http_get($port, $path, headers => \@headers)->{body}
        =~ /(\w+)=<(.*?)>/g };
}

subtest 'variables' => sub {
    my $v = vars('/vars', [ traceparent => $B1 ]);
    is $v->{trace_id}, $T, 'trace_id';
    is $v->{parent_id}, $P, 'parent_id';
    is_deeply [ @$v{qw(parent_sampled sampled trace_flags)} ], [ 1, 1, '01' ],
        'sampled';
    like $v->{span_id}, qr/^[0-9a-f]{16}$/, 'span_id';
    is $v->{traceparent}, "00-$T-$v->{upstream_span_id}-01", 'traceparent';
    $v = vars('/vars', [ traceparent => $B0 ]);
    is_deeply [ @$v{qw(parent_sampled sampled trace_flags)} ], [ 0, 0, '00' ],
        'parent not sampled';
    $v = vars('/vars');
    is_deeply [ @$v{qw(parent_id parent_sampled sampled trace_flags)} ],
        [ '', 0, 1, '03' ], 'no parent';
    $v = vars('/zero?on=0', [ traceparent => $B1 ]);
    is_deeply [ @$v{qw(trace_id parent_sampled sampled trace_flags)} ],
        [ $T, 1, 0, '00' ], 'a condition that is false takes part';
    $v = vars('/novars');
    like delete $v->{trace_id}, qr/^[0-9a-f]{32}$/, 'ids are there for whoever asks';
    like delete $v->{span_id}, qr/^[0-9a-f]{16}$/, 'both of them';
    is delete $v->{parent_sampled}, 0, 'nobody has sampled';
    is_deeply $v, { map { $_ => '' } grep { !/^(?:trace_id|span_id|parent_sampled)$/ } @vars },
        'all else is empty where nothing is traced';
    is vars('/novars', [ traceparent => $B1 ])->{trace_id}, $T, 'the caller has a trace';
};

$n->lint;
$bare->finish;
$n->finish;
done_testing;
