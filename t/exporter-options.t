# What the options of an exporter do on the wire and in the file system, with both
# servers: secrets from files, TLS with certificates, failover, unix sockets, the
# directory of a spool. What is refused: nginx-config.t, httpd-config.t.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;
use EdgespanTest::Upstream;

# The workers' user, when we may choose.
my ($user) = $> == 0 ? grep { defined getpwnam $_ } qw(www-data nginx apache nobody) : ();

# A traced server with an exporter of these options: [name, values...]; the first
# is the endpoint.
sub server {
    my ($kind, $options, %opt) = @_;
    my @options = ([ interval => '20ms' ], @$options);
    my $exporter = $kind eq 'nginx'
        ? 'otel_exporter { ' . join(' ', map { join(' ', @$_) . ';' } @options) . ' }'
        : 'OtelExporter ' . join ' ', $options->[0][1], map { my ($name, @v) = @$_;
            $name eq 'spool' && @v > 1 ? ("spool=$v[0]", $v[1] =~ s/^max/spool_max/r)
                : $name . '=' . join ':', @v } grep { $_ != $options->[0] } @options;
    return EdgespanTest::Nginx->new(%opt, defined $user
        ? (user => "$user " . getgrgid((getpwnam $user)[3])) : (), http => "$exporter otel_trace on; "
        . 'server { listen 127.0.0.1:%%PORT1%%; location / { return 200; } }')
        if $kind eq 'nginx';
    return EdgespanTest::Httpd->new(%opt, http => "$exporter\nOtelTrace On\n");
}

sub finish {
    my ($s) = @_;
    $s->{name} = $s->kind . ': no alerts';
    return $s->finish;
}

# A root's file, in a directory that nobody else gets into.
sub secret {
    my ($s, $name, $text) = @_;
    mkdir $s->prefix . '/secret', 0700;
    return $s->write_file("secret/$name", $text, 0600);
}

sub openssl {
    my (@args) = @_;
    system("openssl @args >/dev/null 2>&1") == 0 or die "openssl @args\n";
    return;
}

# A TLS server that wants a client certificate and answers one request with 200.
sub tls_server {
    my ($dir) = @_;
    my $port = free_port();
    pipe my $read, my $write or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        open STDIN, '<&', $read;
        open STDOUT, '>', "$dir/received";
        open STDERR, '>', "$dir/errors";
        close $write;
        exec qw(openssl s_server -quiet -naccept 1 -Verify 1 -verify_return_error), '-accept',
            "127.0.0.1:$port", '-cert', "$dir/server.pem", '-key', "$dir/server.key",
            '-CAfile', "$dir/ca.pem";
        exit 127;
    }
    at_end(2, sub { kill KILL => $pid; waitpid $pid, 0 });
    wait_for(sub { port_listening($port) }, 10, 'the TLS server');
    $write->autoflush(1);
    return { port => $port, write => $write, dir => $dir };
}

for my $kind (qw(nginx httpd)) {

    subtest "$kind: header_file" => sub {
        my $c = EdgespanTest::Collector->new;
        my $s = server($kind, [ [ endpoint => $c->url ],
            [ header_file => 'Authorization', 'secret/token' ],
            [ header_file => 'X-Plain', '%%PREFIX%%/secret/plain' ] ], workers => 1);
        secret($s, 'token', "Bearer f1rst\n");
        secret($s, 'plain', 'no newline');
        $s->start;
        http_get($s->port, '/');
        $c->wait_spans(1);
        my ($request) = $c->requests;
        is header($request, 'Authorization'), 'Bearer f1rst', 'its content without the newline';
        is header($request, 'X-Plain'), 'no newline', 'or as it is';

        secret($s, 'token', "Bearer s3cond\n");
        http_get($s->port, '/');
        $c->wait_spans(2);
        is header(($c->requests)[-1], 'Authorization'), 'Bearer f1rst', 'read with the configuration';
        $s->reload(undef, drain => 1);
        http_get($s->port, '/');
        $c->wait_spans(3);
        is header(($c->requests)[-1], 'Authorization'), 'Bearer s3cond', 'and again by a reload';
        unlike $s->error_log . $s->stderr_log, qr/f1rst|s3cond/, 'never logged';
        finish($s);
    };

    subtest "$kind: TLS with certificates that only root can read" => sub {
        my @tls = ([ trusted_certificate => 'secret/ca.pem' ],
            [ client_certificate => 'secret/client.pem' ],
            [ client_certificate_key => 'secret/client.key' ]);
        my $s = server($kind, [ [ endpoint => 'https://localhost:%%TLS%%/v1/traces' ], @tls ],
            workers => 1, files => { 'secret/x' => '' });
        my $dir = $s->prefix . '/secret';
        chmod 0700, $dir;
        my $new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        openssl("$new -subj /CN=ca -keyout $dir/ca.key -out $dir/ca.pem");
        for my $name (qw(server client)) {
            my $host = $name eq 'server' ? 'localhost' : 'gateway';
            $s->write_file('secret/ext', "subjectAltName=DNS:$host\n");
            openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$host"
                . " -keyout $dir/$name.key -out $dir/$name.csr");
            openssl("x509 -req -in $dir/$name.csr -CA $dir/ca.pem -CAkey $dir/ca.key"
                . " -CAcreateserial -days 2 -extfile $dir/ext -out $dir/$name.pem");
            chmod 0600, "$dir/$name.key";
        }
        my $tls = tls_server($dir);
        $s->{vars}{TLS} = $tls->{port};
        $s->start;
        http_get($s->port, '/');
        my $received = eval { wait_for(sub { my $text = slurp("$dir/received") // '';
            $text =~ /\r\n\r\n./s ? $text : undef }, 10, 'a request over TLS') };
        like $received, qr{^POST /v1/traces HTTP/1\.1\r\n}, 'it came through'
            or diag $@, $s->error_log, slurp("$dir/errors");
        print { $tls->{write} } "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        unlike $s->error_log . $s->stderr_log, qr/exporting to/, 'no complaint';
        finish($s);
    };

    subtest "$kind: a second endpoint" => sub {
        my $c = EdgespanTest::Collector->new;
        my $dead = free_port();
        my $s = server($kind, [ [ endpoint => "http://127.0.0.1:$dead/v1/traces" ],
            [ endpoint => $c->url ] ]);
        $s->start;
        http_get($s->port, '/');
        my ($span) = $c->wait_spans(1);
        ok $span, 'gets the spans while the first is away';
        finish($s);
    };

    subtest "$kind: compression, batch_size" => sub {
        my $c = EdgespanTest::Collector->new;
        my $s = server($kind, [ [ endpoint => $c->url ], [ compression => 'gzip' ],
            [ batch_size => 2 ] ], workers => 1);
        $s->start;
        http_get($s->port, '/') for 1 .. 9;
        my @spans = $c->wait_spans(9);
        is header(($c->requests)[0], 'Content-Encoding'), 'gzip', 'compressed';
        my %per;
        $per{ $_->{request_n} }++ for @spans;
        is scalar(grep { $_ > 2 } values %per), 0, 'a batch_size that is given is a maximum';
        finish($s);
    };

    subtest "$kind: a unix socket" => sub {
        my $socket = tmpdir() . '/otel.sock';
        my $u = EdgespanTest::Upstream->new(unix => $socket, respond =>
            sub { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" });
        my $s = server($kind, [ [ endpoint => "unix:$socket" ],
            [ protocol => 'http/protobuf' ] ]);
        $s->start;
        http_get($s->port, '/');
        my ($request) = $u->wait_requests(1, 10);
        like $request, qr{^POST /v1/traces HTTP/1\.1\r\n(?:.*\r\n)*Host: localhost\r\n}, 'it gets the spans';
        finish($s);
    };

    subtest "$kind: the directory of a spool" => sub {
        my $c = EdgespanTest::Collector->new;
        my $s = server($kind, [ [ endpoint => $c->url ], [ spool => 'made', 'max=2m' ] ]);
        $s->start;
        my @status = stat $s->prefix . '/made';
        is sprintf('%o', $status[2] & 07777), '700', 'is made for one user alone';
        is $status[4], defined $user ? scalar getpwnam $user : $>, 'who is the serving one';
        $s->reload;
        http_get($s->port, '/');
        $c->wait_spans(1);
        finish($s);
    };
}

done_testing;
