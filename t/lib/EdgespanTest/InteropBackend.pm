package EdgespanTest::InteropBackend;

# What the collectors of the interop tests share: a real program, fetched or built
# by t/interop/fetch, on ports of its own. It is started, stopped and looked after
# as the web servers are.

use strict;
use warnings;

use parent 'EdgespanTest::Server';

use HTTP::Tiny;
use JSON::PP ();

use EdgespanTest;

sub new {
    my ($class, %opt) = @_;
    my $self = $class->_new(module => 0, start_timeout => 90, %opt);
    $self->{program} = interop_program($self->program);
    return $self;
}

# Never skipped: who runs these tests wants them run.
sub interop_program {
    my ($name) = @_;
    my $file = ($ENV{EDGESPAN_INTEROP} || repo_root() . '/build/interop') . "/bin/$name";
    die "$file is missing: run 'make interop'\n" unless -e $file;
    return $file;
}

sub stop_signal    { return 'TERM' }
sub system_modules { return '' }
sub module_file    { return module_nginx() }

# A Go program that panics; Java's last words.
sub bad_log { return qr/^panic: |^fatal error: |OutOfMemoryError/ }

# A subclass names its ports: {what => number of the placeholder}.
sub port_of {
    my ($self, $what) = @_;
    my $n = $self->ports_named->{$what} // die ref($self) . " has no port '$what'\n";
    return $self->port($n);
}

sub write_config {
    my ($self) = @_;
    $self->port($_) for values %{ $self->ports_named };
    my $text = $self->config // return;
    return $self->write_file('config.yaml', $self->expand($text));
}

sub ready {
    my ($self) = @_;
    return !grep { !port_listening($_) } values %{ $self->{ports} };
}

# The spans of a trace as soon as there are $n of them; fewer if they do not come.
sub wait_trace {
    my ($self, $trace_id, $n, $timeout) = @_;
    my @spans;
    eval {
        wait_for(sub { (@spans = $self->spans($trace_id)) >= $n }, $timeout // 15, 'spans');
    };
    return @spans;
}

# The body of an answer; nothing if there is none yet. Zipkin takes seconds to close
# a connection, so nobody waits for that.
sub get {
    my ($self, $port, $path) = @_;
    my $answer = HTTP::Tiny->new(timeout => 10, no_proxy => ['127.0.0.1'])
        ->get("http://127.0.0.1:$port$path");
    return $answer->{status} == 200 ? $answer->{content} : undef;
}

sub get_json {
    my ($self, @get) = @_;
    my $text = $self->get(@get) // return;
    return JSON::PP::decode_json($text);
}

1;
