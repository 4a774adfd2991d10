# The harness proves itself: no module of ours is needed here.

use strict;
use warnings;

use IO::Compress::Gzip qw(gzip $GzipError);
use IO::Socket::INET;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;
use EdgespanTest::Otlp;
use EdgespanTest::Tree;

# Golden ExportTraceServiceRequest (conformance reference, section K).
my $GOLDEN = pack 'H*', join '', qw(
    0ac3010a180a160a0c736572766963652e6e616d6512060a046564676512a6010a060a01
    6d120131129b010a104bf92f3577b34da6a3ce929d0e0e4736120800f067aa0ba902b71a
    076f743d74683a302208b7ad6b71692033312a0347455430023900002a36fe9c97174140
    423936fe9c97174a200a19687474702e726573706f6e73652e7374617475735f636f6465
    120318c8014a200a15687474702e726571756573742e6865616465722e7812072a050a03
    0a016150017a051201651802850103030000);
my $TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
my $SPAN  = '00f067aa0ba902b7';

my %PROTO = (headers => [ [ 'Content-Type', 'application/x-protobuf' ] ]);

sub post {
    my ($c, %opt) = @_;
    return http_get($c->port, '/v1/traces', method => 'POST', %PROTO,
        body => $GOLDEN, %opt);
}

my %before = map { $_ => 1 } children_of($$);

subtest 'helpers' => sub {
    is wait_for(sub {42}, 1, 'x'), 42, 'wait_for returns the value';
    my $from = time;
    ok !eval { wait_for(sub {0}, 0.1, 'godot'); 1 }, 'wait_for dies';
    like $@, qr/waiting for godot/, 'and says what for';
    cmp_ok time - $from, '<', 5, 'in time';
    my $port = free_port();
    ok !port_listening($port), 'free port is free';
    my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port, Listen => 1, ReuseAddr => 1);
    ok port_listening($port), 'and seen once it listens';
    isnt free_port(), $port, 'not handed out twice';
    ok proc_alive($$), 'we are alive';
    ok rss_kb($$) > 1000, 'rss';
    ok pss_kb($$) > 500, 'pss';
    ok -e repo_root() . '/t/otlp.proto', 'repository root';
    my $res = parse_response("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
        . "A: 1\r\na: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        . "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
    is $res->{status}, 200, 'interim response skipped';
    is $res->{body}, 'abcde', 'chunks joined';
    is_deeply [ header($res, 'A') ], [ 1, 2 ], 'repeated header';
};

subtest 'decoder' => sub {
    my ($span, @more) = EdgespanTest::Otlp::decode($GOLDEN);
    is @more, 0, 'one span';
    is_deeply $span, {
        trace_id => $TRACE, span_id => $SPAN,
        parent_span_id => 'b7ad6b7169203331', trace_state => 'ot=th:0',
        name => 'GET', kind => 'SERVER', flags => 0x303,
        start => 1700000000000000000, end => 1700000000001000000,
        attrs => { 'http.response.status_code' => 200,
                   'http.request.header.x' => ['a'] },
        attr_types => { 'http.response.status_code' => 'int',
                        'http.request.header.x' => 'string[]' },
        dup_keys => [], dropped_attributes_count => 1,
        dropped_events_count => 0, dropped_links_count => 0,
        events => [], links => [],
        status => { code => 'ERROR', message => 'e' },
        resource => { 'service.name' => 'edge' },
        scope => { name => 'm', version => '1', attrs => {} },
        schema_url => '', resource_schema_url => '',
    }, 'golden vector';
    is_deeply [ EdgespanTest::Otlp::lint([$span]) ], [], 'lint is content';
    my %ours = (%$span, scope => { name => 'edgespan' }, attrs => { 'edgespan.time.server' => 0.0005 });
    is_deeply [ EdgespanTest::Otlp::lint([ \%ours ]) ], [
        "$SPAN 'GET': status ERROR, error.type absent",
        "$SPAN 'GET': edgespan.time.* are 0.0005 of 0.001 seconds" ], 'or is not';
    is_deeply [ EdgespanTest::Otlp::lint_traces([ map { { %$span, %$_ } } {}, { kind => 'CLIENT', span_id => 'a',
        parent_span_id => $SPAN, end => $span->{end} + 256 }, { kind => 'INTERNAL', span_id => 'b' }, {} ], 'complete') ], [
        "$SPAN 'GET': this id twice", "CLIENT a 'GET': ends after its parent", "INTERNAL b 'GET': no parent" ],
        'nor with the traces';
    is EdgespanTest::Tree::tree([$span]),
        "trace $TRACE\n  SERVER GET 200 1.000ms [edge] $SPAN <- b7ad6b7169203331\n",
        'tree';
    is_deeply [ map { scalar @$_ } EdgespanTest::Otlp::decode_many(
        $GOLDEN, '', $GOLDEN . $GOLDEN) ], [ 1, 0, 2 ], 'many bodies at once';
    is_deeply [ EdgespanTest::Otlp::span_ids($GOLDEN x 3) ], [ ($SPAN) x 3 ],
        'ids from the wire';

    ok !eval { EdgespanTest::Otlp::decode("\x0a\x03\x1a\x01a\x10\x01"); 1 },
        'unknown number';
    ok !eval { EdgespanTest::Otlp::decode("\x0a\x05\x22\x03\x0a\x01x"); 1 },
        'unknown message field';
    like $@, qr/unknown field/, 'is called so';
    ok !eval { EdgespanTest::Otlp::decode_many($GOLDEN,
        substr $GOLDEN, 0, -1); 1 }, 'truncated body';
    like $@, qr/body 1: truncated/, 'is named';
    ok !eval { EdgespanTest::Otlp::decode(
        $GOLDEN =~ s/edge/ed\xffe/r); 1 }, 'invalid UTF-8 is refused';
    my ($odd) = EdgespanTest::Otlp::decode($GOLDEN =~ s/edge/"\\\n\x01/r);
    is $odd->{resource}{'service.name'}, qq{"\\\n\x01}, 'escapes';
    ($odd) = EdgespanTest::Otlp::decode($GOLDEN =~ s/edge/\xc3\xa4{}/r);
    is $odd->{resource}{'service.name'}, "\x{e4}{}", 'strings are characters';

    my $json = '{"resourceSpans":[{"resource":{"attributes":[{"key":'
        . '"service.name","value":{"stringValue":"edge"}}]},"scopeSpans":[{'
        . '"scope":{"name":"m","version":"1"},"spans":[{"traceId":"' . $TRACE
        . '","spanId":"' . $SPAN . '","traceState":"ot=th:0","parentSpanId":'
        . '"b7ad6b7169203331","name":"GET","kind":2,"startTimeUnixNano":'
        . '"1700000000000000000","endTimeUnixNano":"1700000000001000000",'
        . '"attributes":[{"key":"http.response.status_code","value":{"intValue"'
        . ':"200"}},{"key":"http.request.header.x","value":{"arrayValue":'
        . '{"values":[{"stringValue":"a"}]}}}],"droppedAttributesCount":1,'
        . '"status":{"message":"e","code":2},"flags":771}]}]}]}';
    my $dir = tmpdir();
    open my $fh, '>', "$dir/x.jsonl";
    print {$fh} "$json\n$json\n{\"unfinished";
    close $fh;
    my @json = EdgespanTest::Otlp::read_jsonl("$dir/x.jsonl");
    is @json, 2, 'complete JSON lines';
    is_deeply $json[1], $span, 'JSON gives the same span';
    for my $case (
        [ 's/traceState/trace_state/', 'snake case' ],
        [ 's/"200"/200/',              'int64 as a number' ],
        [ 's/"kind":2/"kind":"2"/',    'enum as a string' ],
        [ 's/4bf9/4BF9/',              'upper-case hex' ],
    ) {
        my ($edit, $what) = @$case;
        local $_ = $json;
        eval $edit;
        ok !eval { EdgespanTest::Otlp::decode_json_body($_); 1 },
            "JSON: $what refused";
    }
};

subtest 'collector answers' => sub {
    my $c = EdgespanTest::Collector->new;
    is $c->url, 'http://127.0.0.1:' . $c->port . '/v1/traces', 'url';
    my $res = post($c);
    is $res->{status}, 200, 'ok';
    is $res->{body}, '', 'empty body';
    is header($res, 'content-type'), 'application/x-protobuf', 'type';
    my ($span) = $c->wait_spans(1, 5);
    is $span->{span_id}, $SPAN, 'span arrived';
    my ($req) = $c->requests;
    is $req->{answered}, 200, 'acknowledged';
    is slurp($req->{file}), $GOLDEN, 'body stored';
    cmp_ok abs(time - $req->{time}), '<', 5, 'arrival time';
    is header($req, 'content-TYPE'), 'application/x-protobuf', 'headers';
    is_deeply $c->span_ids_fast, { $SPAN => 1 }, 'fast ids';

    my $head = "POST /v1/traces HTTP/1.1\r\nHost: x\r\n";
    my $plain = $head . 'Content-Length: ' . length($GOLDEN) . "\r\n\r\n$GOLDEN";
    my $chunked = $head . "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        . "a\r\n" . substr($GOLDEN, 0, 10) . "\r\n"
        . sprintf("%x\r\n", length($GOLDEN) - 10) . substr($GOLDEN, 10)
        . "\r\n0\r\n\r\n";
    my ($text, $why) = http_raw($c->port, "$plain$plain$chunked");
    is scalar(() = $text =~ /^HTTP\/1.1 200/mg), 3, 'keep-alive and chunked';
    is $why, 'eof', 'closed when asked to';
    is scalar(my @all = $c->wait_spans(4, 5)), 4, 'all of them decoded';
    is_deeply [ map { $_->{conn} } $c->requests ], [ 1, 2, 2, 2 ],
        'connections told apart';

    gzip(\$GOLDEN => \my $packed) or die $GzipError;
    is post($c, body => $packed, headers => [ @{ $PROTO{headers} },
        [ 'Content-Encoding', 'gzip' ] ])->{status}, 200, 'gzip';
    $c->wait_spans(5, 5);
    is $c->span_ids_fast->{$SPAN}, 5, 'gzip counted';

    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $c->port);
    print {$sock} $head, "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n";
    like readline $sock, qr/^HTTP\/1.1 100/, 'expect';
    close $sock;

    $c->mode('partial:3');
    is unpack('H*', post($c)->{body}), '0a050803120178', 'partial success';
    $c->mode('status:429:Retry-After=1');
    $res = post($c);
    is $res->{status}, 429, 'status';
    is header($res, 'Retry-After'), 1, 'with header';
    $c->mode('raw:nonsense');
    is post($c)->{raw}, 'nonsense', 'raw';
    $c->mode('reset');
    is post($c)->{ended}, 'reset', 'reset';
    $c->mode('hang');
    is post($c, timeout => 0.2)->{ended}, 'timeout', 'hang';
    $c->mode('slow:2');
    my $from = time;
    my $slow = fork // die;
    if (!$slow) { post($c); POSIX::_exit(0) }
    $c->wait_requests(12, 5);
    my $open = ($c->requests)[-1];
    is $open->{answered}, 'no', 'slow: not answered yet';
    $c->mode('ok');
    is post($c)->{status}, 200, 'others are not held up';
    is +($c->requests)[11]{answered}, 'no', 'meanwhile';
    waitpid $slow, 0;
    cmp_ok time - $from, '>=', 2, 'slow took its time';
    is join(' ', map { $_->{answered} } $c->requests),
        '200 200 200 200 200 200 200 429 no no no 200 200', 'how each was answered';
    my @ok = $c->spans;
    is @ok, 8, 'only acknowledged spans count';
    is scalar(my @none = $c->spans(name => 'POST')), 0, 'filter by name';
    is scalar(my @some = $c->spans(kind => 'SERVER',
        attr => { 'http.response.status_code' => qr/^2/ })), 8, 'by attribute';

    $c->mode('blackhole');
    is post($c, timeout => 0.2)->{ended}, 'timeout', 'blackhole';
    is scalar(my @r = $c->requests), 13, 'nothing read';
    $c->mode('ok');
    is post($c)->{status}, 200, 'back from the black hole';
    ok !eval { $c->mode('nice'); 1 }, 'unknown mode';
    is $c->errors, '', 'no HTTP errors';

    ok !eval { $c->wait_spans(1, 0.1, name => 'x'); 1 }, 'wait_spans dies';
    like $@, qr/0 matching spans, .*429.*SERVER GET/s, 'with a picture';
};

subtest 'collector down and back' => sub {
    my $c = EdgespanTest::Collector->new;
    my ($port, $pid) = ($c->port, $c->pid);
    post($c);
    $c->stop;
    ok !proc_alive($pid), 'stopped';
    ok !eval { post($c); 1 }, 'refuses connections';
    $c->start;
    is $c->port, $port, 'same port again';
    is post($c)->{status}, 200, 'answers again';
    is scalar(my @s = $c->wait_spans(2, 5)), 2, 'keeps what it had';

    # A child of the test that outlives the collector must not keep it alive.
    my $held = $c->pid;
    undef $c;
    ok !proc_alive($held), 'ends with its object';
};

subtest 'many spans' => sub {
    my $c = EdgespanTest::Collector->new;
    my $n = 0;
    my $bulk = join '', map {
        my $id = pack 'Q>', ++$n;
        $GOLDEN =~ s/\x12\x08\K\x00\xf0.{6}/$id/sr;
    } 1 .. 20_000;
    my $from = time;
    post($c, body => substr $bulk, $_ * 198_000 * 5, 198_000 * 5) for 0 .. 3;
    is keys %{ $c->span_ids_fast }, 20_000, 'fast ids of 20000 spans';
    diag sprintf '20000 ids in %.2fs', time - $from if $ENV{EDGESPAN_VERBOSE};
};

for my $master (1, 0) {
    subtest "nginx, master_process $master" => sub {
        my $n = EdgespanTest::Nginx->new(module => 0, master => $master,
            workers => $master ? 2 : 1, env => { HARNESS => 'x' },
            http => <<'CONF');
server {
    listen 127.0.0.1:%%PORT%%;
    location = /hi { return 200 "hi $http_x_odd $request_method\n"; }
    location = /two { proxy_pass http://127.0.0.1:%%PORT2%%; }
}
server { listen 127.0.0.1:%%PORT2%%; location / { return 201 two; } }
CONF
        $n->start;
        plain_server($n);
        is http_get($n->port, '/two')->{status}, 201, 'second port';
        my ($ok, $text) = $n->test;
        ok $ok, 'configuration test';
        ($ok, $text) = $n->test('nonsense;');
        ok !$ok, 'bad configuration';
        like $text, qr/unknown directive "nonsense"/, 'says why';
        $n->{allow} = qr/unknown directive "nonsense"/;
        my $master_pid = $n->master_pid;
        if ($master) {
            my @old = $n->worker_pids;
            is @old, 2, 'workers';
            $n->reload('server { listen 127.0.0.1:%%PORT%%; '
                . 'location = /hi { return 200 new; } }', drain => 1);
            is http_get($n->port, '/hi')->{body}, 'new', 'reloaded';
            ok !(grep { proc_alive($_) } @old), 'old workers gone';
            is $n->master_pid, $master_pid, 'same master';
        }
        cmp_ok $n->stop, '<', 5, 'stops';
        ok !proc_alive($master_pid), 'master gone';
        $n->start;
        is http_get($n->port, '/hi')->{status}, 200, 'starts again';
        $n->finish;
    };
}

sub plain_server {
    my ($s) = @_;
    like http_get($s->port, '/')->{body}, qr/^index$/, 'static file';
    my $res = http_get($s->port, '/hi', headers => [ [ 'X-ODD', 'a' ] ]);
    is $res->{status}, 200, 'request';
    like $res->{body}, qr/^hi a GET/, 'header sent';
    my ($raw, $why) = http_raw($s->port, "GET / HTTP/1.0\r\n\r\n");
    like $raw, qr{^HTTP/1\.[01] 200 .*index}s, 'raw request';
    is $why, 'eof', 'until close';
    wait_for(sub { $s->access_log =~ m{GET /hi} }, 5, 'access log');
    pass 'access log';
}

subtest 'nginx as a daemon, and trouble' => sub {
    my $n = EdgespanTest::Nginx->new(module => 0, daemon => 1,
        http => 'server { listen %%PORT%%; }');
    $n->start;
    my $pid = $n->master_pid;
    ok proc_alive($pid), 'daemon runs';
    is http_get($n->port, '/')->{status}, 200, 'and serves';
    my ($worker) = $n->worker_pids;
    kill SEGV => $worker;
    $n->wait_log(qr/exited on signal 11/);
    my $bad = join "\n", $n->_conclude;
    like $bad, qr/exited on signal 11/, 'a crash is noticed';
    ok !proc_alive($pid), 'daemon stopped';
    $n->{allow} = qr/exited on signal 11/;
    $n->finish;

    my $broken = EdgespanTest::Nginx->new(module => 0, http => 'nonsense;');
    ok !eval { $broken->start; 1 }, 'a broken configuration does not start';
    like $@, qr/nonsense/, 'and tells';
    ok !eval { EdgespanTest::Nginx->new(module => 0, http => '%%WHAT%%')
        ->start; 1 }, 'unknown placeholder';

    # A port that somebody takes between choice and start is replaced.
    my $late = EdgespanTest::Nginx->new(module => 0,
        http => 'server { listen 127.0.0.1:%%PORT%%; }');
    my $sock = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1,
        LocalPort => $late->{ports}{1} = free_port(), ReuseAddr => 1);
    my $taken = $late->{ports}{1};
    $late->start;
    isnt $late->port, $taken, 'another port';
    $late->finish;
};

for my $mpm (qw(prefork worker event)) {
    subtest "httpd $mpm" => sub {
        my $h = EdgespanTest::Httpd->new(module => 0, mpm => $mpm,
            http2 => $mpm ne 'prefork',
            files => { 'cgi-bin/hi' => "#!/bin/sh\n"
                . "printf 'Content-Type: text/plain\\n\\nhi %s %s\\n' "
                . "\"\$HTTP_X_ODD\" \"\$REQUEST_METHOD\"\n" },
            http => <<'CONF');
ScriptAlias /hi %%PREFIX%%/cgi-bin/hi
ProxyPass /two http://127.0.0.1:%%PORT2%%/
Listen 127.0.0.1:%%PORT2%%
CONF
        $h->start;
        plain_server($h);
        is http_get($h->port, '/two')->{body}, "index\n", 'second port';
        my ($ok, $text) = $h->test('Nonsense on');
        ok !$ok, 'bad configuration';
        like $text, qr/Invalid command 'Nonsense'/, 'says why';
        my @old = $h->worker_pids;
        is @old, 2, 'workers, without the CGI daemon';
        my $master = $h->master_pid;
        $h->reload('Redirect /hi /', drain => 1);
        is http_get($h->port, '/hi')->{status}, 302, 'reloaded';
        ok !(grep { proc_alive($_) } @old), 'old children gone';
        $h->reload(undef, hard => 1);
        is http_get($h->port, '/hi')->{status}, 302, 'restarted';
        is $h->master_pid, $master, 'same master';
        cmp_ok $h->stop($mpm eq 'worker' ? 'WINCH' : 'TERM'), '<', 8, 'stops';
        ok !proc_alive($master), 'master gone';
        $h->finish;
    };
}

subtest 'httpd that does not start' => sub {
    my $h = EdgespanTest::Httpd->new(module => 0, http => 'Nonsense on');
    ok !eval { $h->start; 1 }, 'dies';
    like $@, qr/Nonsense/, 'and tells';
};

is_deeply [ grep { !$before{$_} } children_of($$) ], [], 'nothing left running';

# A test that is killed takes its servers along.
{
    my $script = <<'CODE';
use EdgespanTest; use EdgespanTest::Nginx; use EdgespanTest::Collector;
my $c = EdgespanTest::Collector->new;
my $n = EdgespanTest::Nginx->new(module => 0, http => 'server { listen %%PORT%%; }');
$n->start; $| = 1;
print join(' ', $c->pid, $n->master_pid, $n->worker_pids), "\n"; sleep 60;
CODE
    for my $signal (qw(TERM KILL)) {
        my $lib = repo_root() . '/t/lib';
        local $ENV{TMPDIR} = tmpdir();
        my $pid = open(my $fh, '-|') // die "fork: $!";
        if (!$pid) {
            open STDERR, '>', '/dev/null';
            exec $^X, "-I$lib", '-e', $script;
        }
        my @pids = split ' ', readline $fh;
        is @pids, 3, 'a script with servers';
        kill $signal => $pid;
        eval { wait_for(sub { !grep { proc_alive($_) } @pids }, 5, 'the end') };
        ok !(grep { proc_alive($_) } @pids), "all gone after SIG$signal";
        close $fh;
    }
}

done_testing;
