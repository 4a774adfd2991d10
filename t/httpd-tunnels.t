# httpd: connections that become another protocol's: WebSocket and CONNECT.

use strict;
use warnings;

use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;
use Time::HiRes qw(sleep);

use EdgespanTest;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Upstream;

my $SWITCH = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

my @UPGRADE = (headers => [ [ Upgrade => 'websocket' ], [ Connection => 'Upgrade' ] ]);

my %answer = (
    open  => sub {$SWITCH},
    wait  => sub { ([ delay => 0.4 ], $SWITCH, 'bye', 'close') },
    no    => sub { "HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nno", 'close' },
    reset => sub { ($SWITCH, 'hello', [ delay => 0.2 ], 'reset') },
    none  => sub {'close'},
);

sub upstream {
    return EdgespanTest::Upstream->new(respond => sub {
        my ($name) = $_[0] =~ m{^GET /(\w+)} or return ('bye', 'close');
        return $answer{$name}->();
    });
}

sub client_of {
    my ($s, $span) = @_;
    my @clients = $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
    is @clients, 1, 'one CLIENT span';
    return $clients[0];
}

# A WebSocket whose client, when it has that, says something after a while.
sub talk {
    my ($s) = @_;
    my ($record, $text) = recorded($s, sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $s->port) or die;
        syswrite $sock,
            "GET /open HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        my $text = '';
        1 while $text !~ /\r\n\r\n/ && sysread $sock, $text, 4096, length $text;
        sleep 0.4;
        syswrite $sock, "hello\r\n\r\n";
        1 while sysread $sock, $text, 4096, length $text;
        return $text;
    });
    my $span = span_of($s, $record);
    $span->{response} = parse_response($text);
    return $span;
}

# It was upgraded early in the span, or late.
sub upgrade_ok {
    my ($span, $when) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($event, @more) = @{ $span->{events} };
    is @more, 0, "$span->{kind}: one event";
    is $event->{name}, 'edgespan.upgrade', 'the upgrade';
    my ($before, $after) = ($event->{time} - $span->{start}, $span->{end} - $event->{time});
    ok $before >= 0 && $after >= 0, 'within the span';
    cmp_ok $when eq 'early' ? $after : $before, '>=', 3e8, $when;
}

# --- Tests ----------------------------------------------------------------

my %how = (
    'mod_proxy_http' => 'ProxyPass / http://%%UP%%/ upgrade=websocket',
    'mod_proxy_http, for ws:' => 'ProxyPass / ws://%%UP%%/',
    'mod_proxy_wstunnel' => "ProxyWebsocketFallbackToProxyHttp Off\nProxyPass / ws://%%UP%%/",
);
for my $module (sort keys %how) {
    subtest "WebSocket by $module" => sub {
        my $up = upstream();
        my $s = traced(extra => ['proxy_wstunnel'], vars => { UP => $up->address },
            http => "KeepAliveTimeout 1\n$how{$module}")->start;
        for (([ open => 'early' ], [ wait => 'late' ])) {
            my ($path, $when) = @$_;
            my $span = $path eq 'open' ? talk($s) : get($s, "/$path", @UPGRADE);
            my $client = client_of($s, $span);
            like $span->{response}{body} // '', qr/bye/, "/$path: open until the end";
            for ($span, $client) {
                is $_->{attrs}{'http.response.status_code'}, 101, "$_->{kind}: 101";
                is $_->{status}{code}, 'UNSET', 'no error';
                upgrade_ok($_, $when);
            }
            my ($request) = grep {m{^GET /$path}} $up->requests;
            my ($tp) = EdgespanTest::Upstream::header_values($request, 'traceparent');
            is $tp, "00-$span->{trace_id}-$client->{span_id}-03", 'the upstream sees the CLIENT span';
        }
        my $span = get($s, '/no', @UPGRADE);
        for ($span, client_of($s, $span)) {
            is $_->{attrs}{'http.response.status_code'}, 403, "$_->{kind}: refused";
            is_deeply $_->{events}, [], 'without an upgrade';
        }
        $span = get($s, '/none', @UPGRADE);
        is client_of($s, $span)->{attrs}{'error.type'}, 'no_response', 'no answer';
        is $span->{attrs}{'error.type'}, 502, 'is an error of ours';
        lint($s);
        $s->finish;
    };
}

subtest 'a WebSocket that is torn' => sub {
    my $up = upstream();
    my $s = traced(vars => { UP => $up->address },
        http => 'ProxyPass / http://%%UP%%/ upgrade=websocket')->start;
    my $span = get($s, '/reset', @UPGRADE);
    is $span->{attrs}{'http.response.status_code'}, 101, 'by the upstream: 101';
    my $record = recorded($s, sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $s->port) or die;
        syswrite $sock,
            "GET /open HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        sysread $sock, my $some, 1000;
        setsockopt $sock, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        close $sock;
    });
    $span = span_of($s, $record);
    for ($span, client_of($s, $span)) {
        is $_->{attrs}{'http.response.status_code'}, 101, "$_->{kind}: by the client: 101";
        is $_->{status}{code}, 'UNSET', 'no error';
    }
    lint($s);
    $s->finish;
};

subtest 'CONNECT' => sub {
    my $up = EdgespanTest::Upstream->new(
        respond => sub { ([ delay => 0.4 ], 'bye', 'close') });
    my $s = traced(extra => ['proxy_connect'],
        vars => { TO => $up->port }, http => "ProxyRequests On\nAllowCONNECT %%TO%%")->start;
    my $to = '127.0.0.1:' . $up->port;
    my $span = raw($s, "CONNECT $to HTTP/1.1\r\nHost: $to\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    is $span->{response}{status}, 200, 'connected';
    is $span->{attrs}{'http.response.status_code'}, 200, 'which is the status';
    is $span->{attrs}{'http.request.method'}, 'CONNECT', 'CONNECT';
    is $span->{attrs}{'url.path'}, undef, 'has no path';
    my $client = client_of($s, $span);
    is $client->{attrs}{'network.peer.port'}, $up->port, 'CLIENT: peer';
    cmp_ok $client->{attrs}{'edgespan.time.upstream_connect'}, '>', 0, 'was connected';
    upgrade_ok($_, 'early') for $span, $client;

    my $dead = '127.0.0.1:' . free_port();
    $span = raw($s, "CONNECT $dead HTTP/1.1\r\nHost: $dead\r\n\r\n");
    is $span->{attrs}{'http.response.status_code'}, 403, 'a port that is not allowed';
    is_deeply $span->{events}, [], 'no tunnel';
    lint($s);
    $s->finish;
};

done_testing;
