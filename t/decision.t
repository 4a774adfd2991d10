# Why: the decision in the access log and in a response header, with the place of the
# directive that decided.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Gateway;

use constant {CALLER => '5eed5eed00000000', PARENT => '00f067aa0ba902b7'};

my $sent = \&EdgespanTest::Gateway::sent;

# The answer is the upstream's, but for these paths.
sub answer {
    my ($bytes) = @_;
    return "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n" if $bytes =~ m{^\S+ /\S*error};
    return ([delay => 2.1], "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") if $bytes =~ m{^\S+ /\S*slow};
    return EdgespanTest::Gateway::echo($bytes);
}

# location => [its directives, {request path below it => [decision, what it names]}];
# the caller's flag is the last part of the path, if there is one.
my @places = (
    default => ['', '' => ['always_on'], '01' => ['parent'], '00' => ['drop parent']],
    on      => ['otel_sampler always_on;', '00' => ['always_on', 'otel_sampler']],
    off     => ['otel_sampler always_off;', '01' => ['drop always_off', 'otel_sampler']],
    all     => ['otel_sample_rate 100%;', '' => ['ratio=1', 'otel_sample_rate']],
    some    => ['otel_sample_rate 0.25%;', '00' => ['drop parent'], '01' => ['parent'],
                '' => [qr/^(?:drop )?ratio=0\.0025$/, 'otel_sample_rate']],
    never   => ['otel_sample_rate 0;', '' => ['drop ratio=0', 'otel_sample_rate']],
    own     => ['otel_sampler traceidratio; otel_sample_rate 0;', '01' => ['drop ratio=0', 'otel_sample_rate']],
    target  => ['otel_sample_target 1r/s min=100%;', '' => ['target=1', 'otel_sample_target']],
    few     => ['otel_sample_target 1r/s min=0.0001% max=0.0001%;',
                '' => ['drop target=0.000001', 'otel_sample_target']],
    untraced => ['otel_trace off; otel_trace_context propagate;', '01' => ['drop off']],
    error   => ['otel_sample_rate 0; otel_sample_keep error slow=2s status=404;',
                '' => ['keep error', 'otel_sample_keep'], '00' => ['keep error', 'otel_sample_keep']],
    slow    => ['otel_sample_rate 0; otel_sample_keep error slow=2s;', '' => ['keep slow', 'otel_sample_keep']],
    chosen  => ['otel_sample_rate 0; otel_sample_keep status=2xx;', '' => ['keep status', 'otel_sample_keep']],
    incident => ['otel_sample_rate 0;', '' => ['override=1', 2], '01' => ['parent'],
                 '00' => ['drop parent']],
    silence => ['otel_sampler always_on;', '00' => ['drop override=0', 3]],
);
my @names = map { $places[2 * $_] } 0 .. $#places / 2;
my %place = @places;

sub told { my ($text) = @_;
    return [$text, {nginx => 'add_header X-Why $otel_decision always;',
        httpd => 'Header always set X-Why "%{OTEL_DECISION}e"'}] }

# "drop ratio=0 (nginx.conf:42)" of a decision and what it names.
sub expected {
    my ($gateway, $name, $decision, $names) = @_;
    my $where = !defined $names ? '' : $names =~ /^\d+$/ ? " (override:$names)"
        : ' (' . directive($gateway, $name, $names) . ')';
    return ref $decision ? qr/\A(?:@{[$decision =~ s{\^|\$}{}gr]})\Q$where\E\z/ : qr/\A\Q$decision$where\E\z/;
}

# Where a location has its directive.
sub directive {
    my ($gateway, $location, $directive) = @_;
    my $nginx = $gateway->kind eq 'nginx';
    $directive =~ s/^otel_(\w+)/join '', 'Otel', map { ucfirst } split m{_}, $1/e unless $nginx;
    my ($line, $inside) = (0, 0);
    for (split /\n/, slurp($gateway->server->prefix . '/' . $gateway->kind . '.conf')) {
        $line++;
        $inside = 1 if m{^(?:location|<Location) /$location/};
        return $gateway->kind . ".conf:$line" if $inside && /\b\Q$directive\E\b/;
    }
    die "no $directive in $location\n";
}

sub decisions {
    my ($gateway) = @_;
    # What the leader has read is in force a second later.
    wait_for(sub {
        my $asked = $gateway->ask('/incident/');
        (header($asked->{answer}, 'X-Why') // '') =~ /override/;
    }, 10, 'the override file to be read');

    my @asked;
    for my $name (@names) {
        my (undef, %flags) = @{$place{$name}};
        for my $flag (sort keys %flags) {
            push @asked, [$name, $flag, @{$flags{$flag}}[0, 1], $gateway->ask("/$name/", $flag eq '' ? ()
                : (headers => [[traceparent => '00-' . CALLER . sprintf('%016x', @asked + 1) . "-@{[PARENT]}-$flag"]]))];
        }
    }
    $gateway->settle;
    for (@asked) {
        my ($name, $flag, $decision, $names, $asked) = @$_;
        my $expected = expected($gateway, $name, $decision, $names);
        my $record = $gateway->record($asked);
        like $record->{decision}, $expected, "$name, caller's flag '$flag': the log";
        my $sampled = $record->{decision} =~ /^(?:drop|keep|limit)/ ? 0 : 1;
        is $record->{sampled}, $sampled, "$name, '$flag': sampled";
        my $head = header($asked->{answer}, 'X-Why');
        $decision =~ /^keep/ ? like($head, qr/^drop (?:ratio=0 \(|parent$)/, "$name, '$flag': the head has said no")
            : is($head, $record->{decision}, "$name, '$flag': the client is told the same");
        is scalar(() = $gateway->spans($asked)) > 0 ? 1 : 0, $record->{decision} =~ /^(?:drop|limit)/ ? 0 : 1,
            "$name, '$flag': spans";
    }
    return;
}

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    my $gateway = EdgespanTest::Gateway->new($kind, respond => \&answer,
        files => {override => "# an incident\n/incident 100% until 2099-01-01T00:00Z\n"
            . "/silence 0 until 2099-01-01T00:00Z\n"},
        main => 'otel_override %%PREFIX%%/override;',
        proxied => [map { ("/$_/" => told($place{$_}[0])) } @names]);
    subtest "$kind: why" => sub { decisions($gateway) };
    $gateway->finish;
}
done_testing;
