# Upgraded connections and tunnels: the moment of the 101 is an event, the spans end when
# the connection does, and no end of it is a truncated response.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

my $SWITCH = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    . "Connection: upgrade\r\n\r\n";

# What the upstream does is the path's last word.
my $up = EdgespanTest::Upstream->new(respond => sub {
    my ($bytes) = @_;
    my ($what) = $bytes =~ m{\A\S+ \S*/(\w+)};
    return "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno" if $what eq 'refuse';
    return [ delay => 0.2 ], $SWITCH, 'hello', 'hang' if $what eq 'hang';
    return $SWITCH, 'hello', [ delay => 0.3 ], $what;
});
my $first = EdgespanTest::Upstream->new(respond => sub { 'reset' });

my $n = EdgespanTest::NginxTraced->new(
    vars => { UP => $up->address, FIRST => $first->address, TUNNEL => '' },
    http => <<'CONF');
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection upgrade;
upstream retry { server %%FIRST%% max_fails=0; server %%UP%% backup; }
server {
    listen 127.0.0.1:%%PORT1%%;
    location /ws/ { proxy_pass http://%%UP%%; }
    location /retry/ { proxy_pass http://retry; }
    location /variable/ { set $to %%UP%%; proxy_pass http://$to; }
    %%TUNNEL%%
    location /idle/ { proxy_read_timeout 2s; proxy_pass http://%%UP%%/ws/hang; }
}
CONF
my $tunnels = $n->version ge v1.31.0;
$n->{vars}{TUNNEL} = 'if ($request_method = CONNECT) { rewrite ^ /tunnel last; }'
    . ' location /tunnel { tunnel_pass ' . $up->address . '; }' if $tunnels;
$n->start;

# Upgrades, waits for the upstream's first bytes, runs $then with the socket;
# returns the SERVER span and the CLIENT spans.
sub upgrade {
    my ($path, $spans, $then) = @_;
    my ($got, $record) = $n->recorded(sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $n->port(1)) or die $!;
        print {$sock} "GET $path HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            . "Connection: upgrade\r\n\r\n";
        $sock->flush;
        $sock->blocking(0);
        my $got = '';
        wait_for(sub { sysread $sock, $got, 4096, length $got;
            $got =~ /hello|no$/ }, 10, 'the answer');
        $sock->blocking(1);
        $then->($sock);
        $got;
    });
    my @spans = $n->trace($record, $spans, 10);
    my ($server) = grep { $_->{kind} eq 'SERVER' } @spans;
    is $server->{attrs}{'http.response.status_code'}, $record->{status},
        "status $record->{status}";
    my @client = sort { $a->{start} <=> $b->{start} }
        grep { $_->{kind} eq 'CLIENT' } @spans;
    is 1 + @client, $spans, "$spans spans";
    is $client[-1]{attrs}{'http.response.status_code'}, $record->{status},
        'CLIENT, too';
    return ($server, \@client, $record);
}

# It lasted for $least seconds, where nginx cannot have been late to see it.
sub upgraded {
    my ($server, $client, $least) = @_;
    for my $span ($server, $client) {
        my $kind = $span->{kind};
        is_deeply [ map { $_->{name} } @{ $span->{events} } ],
            ['edgespan.upgrade'], "$kind: event";
        my $at = $span->{events}[0]{time};
        cmp_ok $at, '>=', $span->{start}, 'within the span';
        cmp_ok $span->{end} - $at, '>=', 1e9 * ($least // 0),
            'which ended later';
        is $span->{status}{code}, 'UNSET', 'no error';
        is $span->{attrs}{$_}, undef, "no $_"
            for qw(error.type edgespan.reason);
    }
    is $client->{events}[0]{time}, $server->{events}[0]{time}, 'one moment';
    return;
}

my %END = (
    'the client closes' => [ hang => sub { sleep 0.3; close $_[0] } ],
    'the client resets' => [ hang => sub { sleep 0.3;
        setsockopt $_[0], SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        close $_[0] } ],
    'the upstream closes' => [ close => sub { local $/; my $rest = readline $_[0] } ],
    'the upstream resets' => [ reset => sub { local $/; my $rest = readline $_[0] } ],
);
for my $what (sort keys %END) {
    subtest $what => sub {
        my ($path, $then) = @{ $END{$what} };
        my ($server, $client) = upgrade("/ws/$path", 2, $then);
        upgraded($server, @$client, $path eq 'hang' ? 0.29 : 0);
    };
}

subtest 'nobody says a word for too long' => sub {
    my ($server, $client) = upgrade('/idle/x', 2,
        sub { local $/; my $rest = readline $_[0] });
    upgraded($server, @$client, 1.5);
};

subtest 'the moment is exact' => sub {
    my ($server, $client) = upgrade('/ws/hang', 2, sub { sleep 0.3 });
    my $at = $server->{events}[0]{time};
    cmp_ok $at - $server->{start}, '>=', 0.199e9, 'not before the upstream';
    my $first_byte = $client->[0]{attrs}{'edgespan.time.upstream_first_byte'};
    cmp_ok $first_byte, '>=', 0.199, 'first byte';
    cmp_ok $client->[0]{attrs}{'edgespan.time.upstream_body'}, '>=', 0.29,
        'the rest';
};

subtest 'after a retry' => sub {
    my ($server, $client) = upgrade('/retry/close', 3,
        sub { local $/; my $rest = readline $_[0] });
    is_deeply $client->[0]{events}, [], 'not the one that failed';
    upgraded($server, $client->[1]);
};

subtest 'resolved at run time' => sub {
    my ($server, $client) = upgrade('/variable/close', 2,
        sub { local $/; my $rest = readline $_[0] });
    upgraded($server, @$client);
};

subtest 'CONNECT' => sub {
    plan skip_all => 'this nginx has no tunnels' unless $tunnels;
    my ($answer, $record) = $n->recorded(sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $n->port(1)) or die $!;
        print {$sock} 'CONNECT ' . $up->address . " HTTP/1.1\r\n"
            . 'Host: ' . $up->address . "\r\n\r\n";
        $sock->flush;
        sysread $sock, my $answer, 4096;
        sleep 0.3;
        $answer;
    });
    like $answer, qr{^HTTP/1.1 200}, 'a tunnel';
    my ($server, $client) = sort { $b->{kind} cmp $a->{kind} }
        $n->trace($record, 2, 10);
    upgraded($server, $client, 0.29);
    is $server->{attrs}{'http.response.status_code'}, 200, 'SERVER: status';
    is $client->{attrs}{'http.response.status_code'}, undef,
        'CLIENT: none, it speaks something else';
};

subtest 'refused: no event' => sub {
    my ($server, $client, $record) = upgrade('/ws/refuse', 2, sub { });
    is_deeply $_->{events}, [], $_->{kind} for $server, @$client;
    is $record->{status}, 403, 'status';
};

$n->lint;
$n->finish;
done_testing;
