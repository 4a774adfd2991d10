package EdgespanTest::InteropChain;

# A service in Go, one in Python and a gateway before both, all of which send their
# spans to one Collector; and the traces of requests that pass through them.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use EdgespanTest;
use EdgespanTest::Interop;
use EdgespanTest::InteropService;

# $kind is the gateway's. Options: directives [lines in nginx's words], env
# {OTEL_... of both services}, go {...}, python {...} (of one).
sub new {
    my ($class, $kind, $collector, %opt) = @_;
    my $self = bless { edge => "Edge-$kind", collector => $collector, traces => [] }, $class;
    for my $language (qw(go python)) {
        $self->{$language} = EdgespanTest::InteropService->new($language, $collector,
            %{ $opt{env} // {} }, %{ $opt{$language} // {} })->start;
    }
    # On a busy machine a second can be too short for the last batch.
    my $exporter = exporter($kind,
        endpoint => 'http://127.0.0.1:' . $collector->port_of('http'),
        protocol => 'http/protobuf', shutdown_timeout => '5s');
    $self->{gateway} = gateway($kind,
        join("\n", $exporter, map { directive($kind, $_) } @{ $opt{directives} // [] }),
        upstreams => { map { $_ => '127.0.0.1:' . $self->{$_}->port_of('http') }
            qw(go python) });
    return $self;
}

# Sends a request along a way: "go" is that service, "/go" the same through the
# gateway, with parameters as in a URL. Returns what is known of its trace: hops (what
# the services on the way answered), id (that of the first), status, and line (what
# line() has to show if all take part in it).
sub call {
    my ($self, @way) = @_;
    my $gateway = 'http://127.0.0.1:' . $self->{gateway}->port;
    my ($url, @line);
    for (reverse @way) {
        my ($edge, $service, $query) = m{^(/?)(\w+)\??(.*)};
        unshift @line, "$service CLIENT" if defined $url;
        unshift @line, $edge ? ("$self->{edge} SERVER", "$self->{edge} CLIENT") : (),
            "$service SERVER";
        my @query = (length $query ? $query : (), defined $url ? 'next=' . _escape($url) : ());
        $url = ($edge ? "$gateway/$service/" : $self->{$service}->url) . '?' . join '&', @query;
    }
    my ($port, $path) = $url =~ m{:(\d+)(/.*)};
    my $answer = http_get($port, $path);
    my $hops = eval { JSON::PP::decode_json($answer->{body}) }
        // die "$url: $answer->{raw}\n", $self->{gateway}->error_log;
    my $trace = { hops => $hops, id => $hops->[0]{trace_id}, status => $answer->{status},
        line => join ', ', @line };
    push @{ $self->{traces} }, $trace;
    return $trace;
}

sub _escape { return $_[0] =~ s/([^\w.~-])/sprintf '%%%02X', ord $1/ger }

sub traces { return @{ $_[0]{traces} } }

# Everything stops: what is not at the Collector then never comes.
sub finish {
    my ($self) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $self->{$_}->finish for qw(gateway go python);
    $self->{collector}->settle;
    return;
}

# The spans of a trace, from the first down, as "go SERVER, go CLIENT, ..."; if they
# are not one below the other, another text.
sub line {
    my ($self, $trace_id) = @_;
    my @spans = $self->{collector}->spans($trace_id);
    my %known = map { $_->{span_id} => 1 } @spans;
    my @line = grep { !$known{ $_->{parent} } } @spans;
    while (@line && (my @children = grep { $_->{parent} eq $line[-1]{span_id} } @spans)) {
        push @line, @children;
    }
    return join ', ', map {"$_->{service} $_->{kind}"} @line;
}

# What is wrong with a request that is to be one trace, sampled by all or by none,
# and recorded as a whole or not at all; nothing if it is so.
sub fault {
    my ($self, $trace) = @_;
    my ($first, @others) = @{ $trace->{hops} };
    my $who = "trace $trace->{id}, sampled=$first->{sampled}";
    for (@others) {
        return "$who: $_->{service} is in $_->{trace_id}" if $_->{trace_id} ne $trace->{id};
        return "$who: $_->{service} has sampled=$_->{sampled}"
            if $_->{sampled} != $first->{sampled};
    }
    my $line = $self->line($trace->{id});
    return $line eq ($first->{sampled} ? $trace->{line} : '') ? () : "$who: $line";
}

sub spans { return $_[0]{collector}->spans($_[1]) }
sub tree  { return $_[0]{collector}->tree($_[1]) }
sub log   { return $_[0]{gateway}->error_log }

1;
