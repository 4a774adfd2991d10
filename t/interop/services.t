# Services with OpenTelemetry's Go and Python SDKs before and behind the gateway: one
# trace, one decision, one Collector.

use strict;
use warnings;
use Test::More;
use EdgespanTest;
use EdgespanTest::Interop;
use EdgespanTest::InteropChain;
use EdgespanTest::InteropCollector;

my $collector = EdgespanTest::InteropCollector->new->start;

# The environment of a service that decides about the traces that begin with it.
sub root_ratio {
    return (OTEL_TRACES_SAMPLER => 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG => $_[0]);
}

# One test for each kind of gateway: $requests makes requests, $check looks at their
# traces when all that there will ever be of them is at the Collector.
sub scenario {
    my ($what, $options, $requests, $check) = @_;
    for my $kind (@SERVERS) {
        subtest "$kind, $what" => sub {
            my $chain = eval { EdgespanTest::InteropChain->new($kind, $collector, %$options) };
            ok($chain, 'all start') or return diag $@;
            $requests->($chain);
            $chain->finish;
            $check->($chain, $kind);
        };
    }
    return;
}

# One test: every request is one trace, which is recorded as a whole or not at all.
sub all_whole {
    my ($chain) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @traces = $chain->traces;
    my @faults = map { $chain->fault($_) } @traces;
    my $sampled = grep { $_->{hops}[0]{sampled} } @traces;
    return is join("\n", @faults[0 .. ($#faults < 5 ? $#faults : 5)]), '',
        @traces . " requests, $sampled sampled: whole traces or none";
}

# One test: so many of the traces are sampled. By chance it fails once in 15,000 times
# (four standard deviations).
sub share {
    my ($chain, $p) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @traces = $chain->traces;
    my $sampled = grep { $_->{hops}[0]{sampled} } @traces;
    my $off = abs $sampled - @traces * $p;
    return cmp_ok $off, '<=', 4 * sqrt(@traces * $p * (1 - $p)),
        "about $p of them: $sampled of " . @traces;
}

# --- Ids, in every format that both SDKs have ---------------------------------

# In both directions, until each service has sampled a trace and has not.
sub both_directions {
    my ($chain) = @_;
    for my $way ([ 'go', '/python' ], [ 'python', '/go' ]) {
        my %seen;
        for (1 .. 100) {
            $seen{ $chain->call(@$way)->{hops}[0]{sampled} } = 1;
            last if keys %seen == 2;
        }
        is keys %seen, 2, "$way->[0] first: some sampled, some not";
    }
    return;
}

sub all_whole_and_shown {
    my ($chain) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    all_whole($chain);
    my %one = map { $_->{line} => $_->{id} } grep { $_->{hops}[0]{sampled} } $chain->traces;
    note $chain->tree($one{$_}) for sort keys %one;
    return;
}

for my $format (qw(tracecontext)) {
    scenario($format, {
        env => { OTEL_PROPAGATORS => $format, root_ratio(0.5) },
    }, \&both_directions, \&all_whole_and_shown);
}

# --- One decision ---------------------------------------------------------------

scenario('a service begins', {
    directives => ['otel_sample_rate 90%'],
    env => { root_ratio(0.3) },
}, sub {
    my ($chain) = @_;
    $chain->call('go', '/python') for 1 .. 200;
    $chain->call('python', '/go') for 1 .. 200;
}, sub {
    my ($chain) = @_;
    all_whole($chain);
    share($chain, 0.3);
});

$collector->finish;

done_testing;
