package EdgespanTest::ScenarioRun;

# Runs the scenarios of a file against one server: all requests first, then, when
# the spans are there and the server has stopped, all comparisons.

use strict;
use warnings;

use Test::More ();

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::GrpcCollector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;
use EdgespanTest::Otlp;
use EdgespanTest::ScenarioClient;
use EdgespanTest::Tree;
use EdgespanTest::Upstream;

# --- What is behind the servers -----------------------------------------------

# The HTTP upstreams answer by the first word of the path.
my %ANSWERS = (
    fails     => sub { _answer(500) },
    lacks     => sub { _answer(404) },
    busy      => sub { _answer(503) },
    closes    => sub { 'close' },
    truncates => sub { ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 'close') },
    moved     => sub { _answer(302, 'Location: /elsewhere') },
    accel     => sub { _answer(200, 'X-Accel-Redirect: /protected/index.html', 'X-Sendfile: index.html') },
    fresh     => sub { _answer(200, 'Cache-Control: max-age=600', 'ETag: "1"') },
    stale     => sub {
        return $_[0] =~ /^If-None-Match: *"1"/mi ? "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n"
            : _answer(200, 'Cache-Control: max-age=0', 'X-Accel-Expires: @1', 'ETag: "1"');
    },
    cookies   => sub { _answer(200, 'Set-Cookie: a=1', 'Set-Cookie: b=2', 'X-Version: 7') },
    socket    => sub {
        my ($key) = $_[0] =~ /^Upgrade: *(\S+)/mi;
        return $key ? "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: $key\r\n\r\n"
            : _answer(426);
    },
);

sub _answer {
    my ($status, @lines) = @_;
    my $body = $status == 200 ? "ok\n" : "$status\n";
    return join "\r\n", "HTTP/1.1 $status Said", @lines, 'Content-Type: text/plain',
        'Content-Length: ' . length $body, '', $body;
}

sub _respond {
    my ($bytes) = @_;
    # What a tunnel carries is no request.
    return (uc $1, 'close') if $bytes =~ /\A(\w+)\r\n/;
    my ($word) = $bytes =~ m{\A[A-Z]+ /(\w+)};
    return ($ANSWERS{ $word // '' } // sub { _answer(200) })->($bytes);
}

# {name => upstream}: their addresses are %%NAME%% in the configurations, DEAD1 and
# DEAD2 those where nobody listens.
sub upstreams {
    my $dir = tmpdir();
    return {
        upstream => EdgespanTest::Upstream->new(respond => \&_respond),
        failing  => EdgespanTest::Upstream->new(respond => sub { _answer(503) }),
        hanging  => EdgespanTest::Upstream->new(respond => sub { 'hang' }),
        socket   => EdgespanTest::Upstream->new(respond => \&_respond, unix => "$dir/socket"),
        (map { $_ => EdgespanTest::Upstream->new(protocol => $_) } qw(fastcgi scgi uwsgi)),
        # A collector of gRPC is a service like others.
        grpc      => EdgespanTest::GrpcCollector->new,
        grpc_away => EdgespanTest::GrpcCollector->new(mode => 'status:14'),
        grpc_none => EdgespanTest::GrpcCollector->new(mode => 'trailers_only:12'),
    };
}

# What an upstream got, as scenarios tell it: the request line without its version,
# and {lowercase name => [values]}.
sub _received {
    my ($upstream, $bytes) = @_;
    if (ref $bytes) {
        my %headers;
        push @{ $headers{ lc $_->[0] } }, $_->[1] for @{ $bytes->{headers} };
        return { line => "$bytes->{method} $bytes->{path}", headers => \%headers };
    }
    if ($upstream->{protocol} ne 'http') {
        my %params = %{ $upstream->params($bytes) };
        my %headers = map { /^HTTP_(.*)/ ? (lc($1) =~ tr/_/-/r => $params{$_}) : () } keys %params;
        return { line => "$params{REQUEST_METHOD}[0] $params{REQUEST_URI}[0]", headers => \%headers };
    }
    my ($head) = split /\r\n\r\n/, $bytes;
    my ($line, @lines) = split /\r\n/, $head;
    $line =~ s{ HTTP/\S+$}{};
    my %headers;
    push @{ $headers{ lc $1 } }, $2 while $head =~ /^([^:\s]+):[ \t]*(.*?)\r?$/mg;
    return { line => $line, headers => \%headers };
}

# --- The servers ----------------------------------------------------------------

sub _nginx {
    my ($http, $server, $url) = @_;
    return EdgespanTest::Nginx->new(name => 'nothing bad in the log of nginx', allow => qr/no live upstreams/,
        http => <<"END");
    otel_exporter { endpoint $url; interval 20ms; header X-Server nginx; }
    otel_service_name scenario;
    otel_resource_attr deployment.environment.name test;
    otel_trace on;
$http
    server {
        listen 127.0.0.1:%%PORT1%%;
        listen 127.0.0.1:%%PORT2%% http2;
        listen [::1]:%%PORT3%%;
        root %%PREFIX%%/html;
$server
    }
END
}

sub _httpd {
    my ($http, $url) = @_;
    return EdgespanTest::Httpd->new(name => 'nothing bad in the log of httpd', http2 => 1, workers => 1, threads => 16,
        extra => [qw(proxy_scgi proxy_uwsgi proxy_wstunnel proxy_http2 cache cache_disk include remoteip
            reqtimeout auth_basic authn_core authn_file authz_user)],
        http => <<"END");
    Listen 127.0.0.1:%%PORT1%%
    Listen [::1]:%%PORT3%%
    OtelExporter $url interval=20ms header=X-Server:httpd
    OtelServiceName scenario
    OtelResourceAttr deployment.environment.name test
    OtelTrace On
$http
END
}

sub _configured {
    my ($kind, $file, $url) = @_;
    my $join = sub {
        my ($section) = @_;
        return join "\n", map { $_ // () } map { $_->{config}{$section} } $file,
            grep { !$_->{only} || $_->{only} eq $kind } @{ $file->{scenarios} };
    };
    return $kind eq 'nginx' ? _nginx($join->('nginx http'), $join->('nginx'), $url)
        : _httpd($join->('httpd'), $url);
}

# Runs the scenarios of a file; returns how many they were.
sub run {
    my ($kind, $file, $upstreams, $collector) = @_;
    my @scenarios = grep { !$_->{only} || $_->{only} eq $kind } @{ $file->{scenarios} };
    my $server = _configured($kind, $file, $collector->url);
    $server->{vars} = { map { uc $_ => $upstreams->{$_}{unix} ? $upstreams->{$_}{unix} : '127.0.0.1:' . $upstreams->{$_}->port } keys %$upstreams };
    $server->{vars}{UPSTREAM_PORT} = $upstreams->{upstream}->port;
    $server->{vars}{"DEAD$_"} = '127.0.0.1:' . free_port() for 1, 2;
    $server->write_file("html/$_->[0]", $_->[1])
        for [ 'index.html', "index\n" ], [ 'error.html', "sorry\n" ], [ 'key', 'x' x 32 ], [ 'protected/index.html', "protected\n" ],
            map { [ "$_.shtml", qq{<!--#include virtual="/$_/one" --> <!--#include virtual="/$_/two" -->\n} ] } qw(part quiet);
    my ($before, $requests) = (scalar(() = $collector->spans), scalar(() = $collector->requests));
    $server->start;
    my @done = map { _request($kind, $_, $server, $upstreams) } @scenarios;
    my $expected = 0;
    $expected += @{ $_->{nodes}{$kind} } for @scenarios;
    # What is missing then is told of each scenario.
    eval { $collector->wait_spans($before + $expected, 10) };
    $server->finish;
    my @spans = $collector->spans;
    splice @spans, 0, $before;
    Test::More::is(join("\n", EdgespanTest::Otlp::lint(\@spans), EdgespanTest::Otlp::lint_traces(\@spans)), '',
        "$kind: $file->{name}: " . @spans . ' spans keep the rules');
    Test::More::is(scalar(grep { $_->{resource}{'service.name'} ne 'scenario'
        || $_->{resource}{'deployment.environment.name'} ne 'test' } @spans), 0, 'and have the resource');
    my @requests = $collector->requests;
    Test::More::is(scalar(grep { (header($_, 'X-Server') // '') ne $kind } splice @requests, $requests), 0,
        'that came with the header');
    Test::More::subtest("$kind: $file->{name}.txt:$scenarios[$_]{line}: $scenarios[$_]{title}" => do {
        my $i = $_;
        sub { _check($kind, $scenarios[$i], $done[$i], \@spans) };
    }) for 0 .. $#scenarios;
    return scalar @scenarios;
}

# Random, so that the spans of one scenario are nobody else's.
sub _caller {
    my $hex = sub { join '', map { sprintf '%02x', 1 + int rand 255 } 1 .. $_[0] };
    return { 'caller.trace' => $hex->(16), 'caller.span' => $hex->(8), 'caller.other' => $hex->(8) };
}

sub _fill {
    my ($text, $known, $server) = @_;
    $text =~ s/\{([a-z][a-z0-9_.]*)\}/$known->{$1} \/\/ "{$1}"/ge;
    return $server->expand($text);
}

sub _request {
    my ($kind, $scenario, $server, $upstreams) = @_;
    my $known = _caller();
    my %before = map { $_ => scalar(() = $upstreams->{$_}->requests) } keys %$upstreams;
    my $arrived = sub { $upstreams->{ $_[0] }->wait_requests($before{ $_[0] } + 1, 30) };
    my %port = (http2 => $kind eq 'nginx' ? 2 : 1, ipv6 => 3);
    my @requests = map { { %$_, head => _fill($_->{head}, $known, $server),
        lines => [ map { _fill($_, $known, $server) } @{ $_->{lines} // [] } ] } } @{ $scenario->{requests}{$kind} };
    my ($ports, $answers) = EdgespanTest::ScenarioClient::send_all(\@requests,
        sub { $server->port($port{ $_[0] } // $_[0]) }, $arrived);
    my %received;
    my %count;
    $count{ _name($_->{head}) }++ for @{ $scenario->{received}{$kind} // [] };
    for my $name (keys %$upstreams) {
        # Those of a subrequest that nobody waited for may still be on their way.
        $upstreams->{$name}->wait_requests($before{$name} + $count{$name}, 10) if $count{$name};
        my @all = $upstreams->{$name}->requests;
        $received{$name} = [ map { _received($upstreams->{$name}, $_) } splice @all, $before{$name} ];
    }
    return { known => $known, server => $server, answers => $answers, received => \%received,
        ports => { map { $_ => 1 } @$ports } };
}

# Lines of what upstreams got begin with the name of another than "upstream".
sub _name { return $_[0] =~ /^([a-z]\w*) / ? $1 : 'upstream' }

sub _check {
    my ($kind, $scenario, $done, $all) = @_;
    my $port = sub { $_[0]{attrs}{'network.peer.port'} // $_[0]{attrs}{'net.sock.peer.port'} // '' };
    my %trace = map { $_->{trace_id} => 1 }
        grep { $_->{kind} eq 'SERVER' && $done->{ports}{ $port->($_) } } @$all;
    my @spans = grep { $trace{ $_->{trace_id} } } @$all;
    my %known = %{ $done->{known} };
    my ($first) = sort { $a->{start} <=> $b->{start} } @spans;
    $known{trace} = $first->{trace_id} if $first;
    my $fill = sub { _fill($_[0], \%known, $done->{server}) };

    my %labels;
    my ($expected, $got) = EdgespanTest::Tree::compare($scenario->{nodes}{$kind}, \@spans, \%labels, sub {
        $known{$_} = $labels{$_}{span_id} for keys %labels;
        return $fill->($_[0]);
    });
    Test::More::is($got, $expected, 'the spans') or Test::More::diag(EdgespanTest::Tree::tree(\@spans, 1));
    Test::More::note($got);
    _check_answer($_, $scenario->{answers}{$kind}[$_], $done->{answers}[$_], $fill)
        for 0 .. $#{ $scenario->{answers}{$kind} };
    _check_received($scenario->{received}{$kind}, $done->{received}, $fill) if $scenario->{received}{$kind};
    return;
}

# "name: value", "name ~ regex" or "name absent" of a list of values.
sub _check_line {
    my ($line, $values, $what) = @_;
    my ($name, $how, $want) = $line =~ /^([\w-]+)(:| ~| absent)\s*(.*)$/ or die "what is '$line'?\n";
    my $have = join ' | ', $values->($name);
    return Test::More::is($have, '', "$what: $line") if $how eq ' absent';
    return Test::More::like($have, qr/$want/, "$what: $name") if $how eq ' ~';
    return Test::More::is($have, $want, "$what: $name");
}

sub _check_answer {
    my ($i, $expected, $answer, $fill) = @_;
    my $what = 'answer ' . ($i + 1);
    Test::More::is($answer->{status} || 'none', $expected->{head}, $what);
    _check_line($fill->($_), sub { lc $_[0] eq 'body' ? $answer->{body} =~ s/\n\z//r : header($answer, $_[0]) }, $what)
        for @{ $expected->{lines} // [] };
    return;
}

sub _check_received {
    my ($expected, $received, $fill) = @_;
    my %have = map { $_ => [ @{ $received->{$_} } ] } keys %$received;
    for my $request (@$expected) {
        my $head = $fill->($request->{head});
        my $name = _name($head);
        $head =~ s/^$name //;
        # Those of subrequests are under way at the same time.
        my ($at) = grep { $have{$name}[$_]{line} eq $head } 0 .. $#{ $have{$name} };
        my $got = splice @{ $have{$name} }, $at // 0, 1;
        Test::More::is($got ? $got->{line} : 'nothing', $head, "what $name got");
        next unless $got;
        _check_line($fill->($_), sub { @{ $got->{headers}{ lc $_[0] } // [] } }, $name)
            for @{ $request->{lines} // [] };
    }
    my @more = map { my $name = $_; map {"$name $_->{line}"} @{ $have{$name} } } sort keys %have;
    Test::More::is(join("\n", @more), '', 'and no more');
    return;
}

1;
