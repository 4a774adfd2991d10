# What is wrong may be on this side, too: a certificate that is not trusted, a disk
# that is full.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Certificates;
use EdgespanTest::Collector;
use EdgespanTest::Edge;
use EdgespanTest::Faults;
use EdgespanTest::Nginx;

my $SHUTDOWN = 'not delivered before the shutdown timeout';

my $certificates = EdgespanTest::Certificates->new;
$certificates->authority($_) for qw(ours other);
$certificates->certificate('good', 'ours');
$certificates->certificate('expired', 'ours', -1);

# An nginx ends the TLS in front of a collector; its ports by certificate.
my %PORT = (good => 1, expired => 2);

sub front {
    my ($c) = @_;
    my $http = 'client_max_body_size 16m;';
    for my $name (sort keys %PORT) {
        $http .= "server { listen 127.0.0.1:%%PORT$PORT{$name}%% ssl;"
            . ' ssl_certificate ' . $certificates->file("$name.pem")
            . '; ssl_certificate_key ' . $certificates->file("$name.key")
            . '; location / { proxy_pass http://127.0.0.1:' . $c->port . '; } }';
    }
    return EdgespanTest::Nginx->new(module => 0, workers => 1, http => $http)->start;
}

sub tls {
    my ($front, $name, $authority) = @_;
    return (endpoint => 'https://127.0.0.1:' . $front->port($PORT{$name}) . '/v1/traces',
        exporter => [ trusted_certificate => $certificates->file("$authority.pem") ]);
}

# Runs a server in a mount namespace of its own, where $dir is a disk of 16 kB.
sub small_disk {
    my ($dir) = @_;
    return (wrap => [ 'unshare', '-m', '--propagation', 'private', 'sh', '-c',
        "mount -t tmpfs -o size=16k,mode=777 x $dir && exec \"\$@\"", 'sh' ]);
}

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    my $c = EdgespanTest::Collector->new;
    my $front = front($c);
    fault($kind, 'TLS: not trusted', collector => $c, tls($front, 'good', 'other'),
        lost => [$SHUTDOWN], log => qr/it failed and is tried again: .*certificate/i);
    fault($kind, 'TLS: expired', collector => $c, tls($front, 'expired', 'ours'),
        lost => [$SHUTDOWN], log => qr/it failed and is tried again: .*expired/);
    $front->stop;
    $front->finish;

    fault($kind, 'a full disk under the file', endpoint => 'file:///dev/full',
        lost => [$SHUTDOWN], log => qr/it failed and is tried again: No space left/);

    SKIP: {
        skip 'mounting takes root and CAP_SYS_ADMIN', 1
            if system('unshare -m --propagation private true 2>/dev/null');
        my $dir = tmpdir();
        fault($kind, 'a full disk under the spool', prepare => sub { $_[0]->stop },
            exporter => [ spool => "$dir max=64m" ], server => { small_disk($dir) },
            lost => [$SHUTDOWN], heal => sub { $_[0]->start },
            log => qr/the spool takes nothing, spans wait in memory: .*No space left/);
    }
}

done_testing;
