package EdgespanTest::GrpcCollector;

# A scriptable OTLP/gRPC collector, used like EdgespanTest::Collector: the same
# methods, other modes (see EdgespanTest::GrpcServer). A request counts as
# answered '200' when its grpc-status was 0, as 'grpc-N' or the like otherwise.

use strict;
use warnings;

use parent 'EdgespanTest::Collector';

use IO::Uncompress::Gunzip qw(gunzip $GunzipError);

use EdgespanTest;

# Why tests with this collector cannot run here; or nothing.
sub missing {
    return eval { require EdgespanTest::GrpcServer; 1 } ? ''
        : $@ =~ /Can't locate Protocol/ ? 'Protocol::HTTP2 is missing' : die $@;
}

# libcurl cannot use a plain HTTP/2 connection twice.
sub libcurl_has_bug_10634 { return `curl --version` =~ m{libcurl/7\.88\.} ? 1 : 0 }

sub server_class {
    require EdgespanTest::GrpcServer;
    return 'EdgespanTest::GrpcServer';
}

sub url { return 'http://127.0.0.1:' . $_[0]->port }

# The message out of its frame, decompressed.
sub body {
    my ($self, $req) = @_;
    my $body = slurp($req->{file}) // die "no $req->{file}\n";
    my ($flag, $length) = unpack 'CN', $body;
    die "bad frame of request $req->{n}\n"
        unless defined $length && length($body) == 5 + $length;
    my $message = substr $body, 5;
    return $message unless $flag;
    die "compressed without grpc-encoding\n"
        if (header($req, 'grpc-encoding') // '') ne 'gzip';
    gunzip(\$message => \my $plain) or die "bad gzip message: $GunzipError\n";
    return $plain;
}

1;
