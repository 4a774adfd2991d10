# TLS to the collector: who is trusted, who is not, and who has to show a
# certificate. An nginx ends the TLS in front of both collectors.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Certificates;
use EdgespanTest::Collector;
use EdgespanTest::GrpcCollector;
use EdgespanTest::Edge;
use EdgespanTest::Nginx;

my $missing = EdgespanTest::GrpcCollector::missing();
plan skip_all => $missing if $missing;

my $certificates = EdgespanTest::Certificates->new('DNS:localhost');
$certificates->authority($_) for qw(ca other);
$certificates->certificate($_, 'ca') for qw(good client);
$certificates->certificate('expired', 'ca', -1);
$certificates->certificate('stranger', 'other');
my $dir = $certificates->dir;

my $grpc = EdgespanTest::GrpcCollector->new;
my $http = EdgespanTest::Collector->new;
my $server = sub {
    my ($port, $name, $more) = @_;
    return "server { listen 127.0.0.1:%%PORT$port%% ssl http2; $more\n"
        . "ssl_certificate $dir/$name.pem; ssl_certificate_key $dir/$name.key;\n"
        . "location / { grpc_pass grpc://127.0.0.1:@{[ $grpc->port ]}; }\n"
        . "location /v1/ { proxy_pass http://127.0.0.1:@{[ $http->port ]}; } }\n";
};
my $front = EdgespanTest::Nginx->new(module => 0, workers => 1, http => join '',
    'log_format front "$connection $server_protocol"; access_log %%PREFIX%%/front.log front;',
    'client_max_body_size 16m; ',
    $server->(1, 'good', ''), $server->(2, 'expired', ''),
    $server->(3, 'good', "ssl_client_certificate $dir/ca.pem; ssl_verify_client on;"));
$front->start;

my @ca = (trusted_certificate => "$dir/ca.pem");
my @client = (client_certificate => "$dir/client.pem",
    client_certificate_key => "$dir/client.key");

# Name, port, host, options, and what is logged instead of spans that arrive.
my @cases = (
    [ 'its authority is trusted', 1, 'localhost', [@ca] ],
    [ 'its authority is not the given one', 1, 'localhost',
        [ trusted_certificate => "$dir/other.pem" ],
        qr/tried again: .*certificate/ ],
    [ 'its authority is not the system\'s', 1, 'localhost', [],
        qr/tried again: .*certificate/ ],
    [ 'its certificate has expired', 2, 'localhost', [@ca],
        qr/tried again: .*certificate has expired/ ],
    [ 'its certificate has another name', 1, '127.0.0.1', [@ca],
        qr/tried again: .*127\.0\.0\.1/ ],
    [ 'nothing is checked', 2, '127.0.0.1', [ ssl_verify => 'off' ] ],
    [ 'it asks for a certificate and gets one', 3, 'localhost', [ @ca, @client ] ],
    [ 'it asks for a certificate and gets none', 3, 'localhost', [@ca],
        qr/rejected: HTTP 400/ ],
    [ 'it asks for a certificate and gets a stranger\'s', 3, 'localhost',
        [ @ca, client_certificate => "$dir/stranger.pem",
            client_certificate_key => "$dir/stranger.key" ],
        qr/rejected: HTTP 400/ ],
);

for my $kind (qw(nginx httpd)) {
    for my $protocol (qw(http/protobuf grpc)) {
        for my $case (@cases) {
            my ($name, $port, $host, $options, $failure) = @$case;
            subtest "$kind, $protocol: $name" => sub {
                my $c = $protocol eq 'grpc' ? $grpc : $http;
                my $before = () = $c->spans;
                my $mark = length(slurp($front->prefix . '/front.log') // '');
                my $s = edge($kind, [ protocol => $protocol, @$options ],
                    endpoint => "https://$host:" . $front->port($port)
                        . ($protocol eq 'grpc' ? '' : '/v1/traces'));
                if ($failure) {
                    request($s, 2);
                    $s->wait_log(qr/exporting to \S+: .*$failure/, 15);
                    is scalar(() = $c->spans), $before, 'no span arrives';
                    $s->stop;
                    is((values %{ dropped_spans($s) })[0], 2, 'both are counted');
                    $s->finish;
                    return;
                }
                for my $n (1 .. 4) {
                    request($s);
                    $c->wait_spans($before + $n, 15);
                }
                $s->stop;
                is_deeply dropped_spans($s), {}, 'all arrive';
                my @lines = substr(slurp($front->prefix . '/front.log'), $mark)
                    =~ /(.+)/g;
                my %seen = map { $_ => 1 } @lines;
                is keys %seen, 1, 'over one connection';
                like $lines[0], $protocol eq 'grpc' ? qr{HTTP/2} : qr{HTTP/1\.1},
                    'of its protocol';
                $s->finish;
            };
        }
    }
}
$front->stop;
$front->finish;

done_testing;
