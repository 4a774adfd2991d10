package EdgespanTest::Scenarios;

# Reads t/scenarios/*.txt: each file has a configuration of both servers, and what
# is asked of them. t/scenarios/README.md describes the form.

use strict;
use warnings;

use EdgespanTest;
use EdgespanTest::Tree;

my @SERVERS = qw(nginx httpd);
my %CONFIG  = map { $_ => 1 } 'nginx', 'nginx http', 'httpd';
my %SECTION = map { $_ => 1 } keys %CONFIG,
    qw(request answer upstream spans differs), map {"only $_"} @SERVERS;

# All files in order of their names: {name, config => {section => text},
# scenarios => [...]}. A scenario: {title, config, request, answer, upstream, spans,
# differs, only}, where request to spans are by server.
sub read_all {
    my @files = sort glob repo_root() . '/t/scenarios/*.txt';
    die "no scenarios\n" unless @files;
    return map { _read($_) } @files;
}

sub _read {
    my ($path) = @_;
    my ($name) = $path =~ m{([^/]+)\.txt$};
    my $file = { name => $name, config => {}, scenarios => [] };
    my ($scenario, $section);
    my $n = 0;
    for my $line (split /\n/, slurp($path)) {
        $n++;
        my $fail = sub { die "$name.txt:$n: $_[0]: $line\n" };
        next if $line =~ /^#/;
        if ($line =~ /^== (.+)/) {
            $scenario = { title => $1, file => $name, line => $n, sections => {} };
            push @{ $file->{scenarios} }, $scenario;
            $section = undef;
        }
        elsif ($line =~ /^([a-z][a-z ]*?)(?: \((nginx|httpd)\))?:(?: (.*))?$/) {
            my ($what, $server, $text) = ($1, $2, $3);
            $fail->('no such section') unless $SECTION{$what};
            my $sections = $scenario ? $scenario->{sections} : $file->{config};
            $fail->('of a scenario only') if !$scenario && !$CONFIG{$what};
            $section = \$sections->{ $server ? "$what ($server)" : $what };
            $fail->('twice') if defined $$section;
            $$section = defined $text ? "$text\n" : '';
        }
        elsif ($line =~ /^(?:    (.*))?$/) {
            if ($section) { $$section .= ($1 // '') . "\n" }
            elsif (defined $1) { $fail->('no section above') }
        }
        else { $fail->('neither a section nor indented by four') }
    }
    eval { _finish($_); 1 } or die "$name.txt:$_->{line}: $_->{title}: $@"
        for @{ $file->{scenarios} };
    return $file;
}

# A section of one server is in place of that of both.
sub _finish {
    my ($scenario) = @_;
    my $sections = $scenario->{sections};
    s/\n+\z/\n/ for values %$sections;
    for my $server (@SERVERS) {
        if (my $reason = delete $sections->{"only $server"}) {
            $scenario->{only} = $server;
            $scenario->{differs} = $reason;
        }
    }
    $scenario->{differs} //= delete $sections->{differs};
    $scenario->{config}{$_} = delete $sections->{$_} // '' for keys %CONFIG;
    my $by_server = 0;
    for my $what (qw(request answer upstream spans)) {
        for my $server (@SERVERS) {
            my $own = $sections->{"$what ($server)"};
            $by_server++ if defined $own && $what ne 'request';
            $scenario->{$what}{$server} = $own // $sections->{$what};
        }
    }
    die "what differs has to say why: differs:\n"
        if $by_server && !defined $scenario->{differs};
    die "differs without sections of one server\n"
        if defined $scenario->{differs} && !$by_server && !$scenario->{only};
    for my $server (grep { !$scenario->{only} || $scenario->{only} eq $_ } @SERVERS) {
        $scenario->{requests}{$server} = [ _blocks($scenario->{request}{$server} // die "no request\n") ];
        $scenario->{answers}{$server} = [ _blocks($scenario->{answer}{$server} // die "no answer\n") ];
        $scenario->{received}{$server} = [ _blocks($scenario->{upstream}{$server}) ]
            if defined $scenario->{upstream}{$server};
        $scenario->{nodes}{$server} = EdgespanTest::Tree::parse($scenario->{spans}{$server} // die "no spans\n");
        die "not as many answers as requests\n"
            if @{ $scenario->{requests}{$server} } != @{ $scenario->{answers}{$server} };
    }
    return;
}

# A line, and those below it that are indented: in parentheses, or not.
sub _blocks {
    my ($text) = @_;
    my @blocks;
    for my $line (split /\n/, $text) {
        next unless $line =~ /\S/;
        if ($line =~ /^\s+\((.*)\)$/) { push @{ $blocks[-1]{how} }, $1 }
        elsif ($line =~ /^\s+(.*)/)   { push @{ $blocks[-1]{lines} }, $1 }
        else { push @blocks, { head => $line, how => [], lines => [] } }
    }
    return @blocks;
}

# docs/differences.md, from the reasons.
sub differences {
    my (@files) = @_;
    my $text = <<'END';
# Where nginx and httpd differ

Both servers have the same scenarios (`t/scenarios/*.txt`): configuration, requests,
and the spans that have to come of them. These are the ones where the spans, or what
clients and upstreams see, are not the same, and why. `make differences` makes this
file of them; `t/scenarios.t` fails where it is out of date.

END
    for my $file (@files) {
        my @differing = grep { defined $_->{differs} } @{ $file->{scenarios} } or next;
        $text .= "## $file->{name}\n\n";
        for my $scenario (@differing) {
            (my $reason = $scenario->{differs}) =~ s/\s+/ /g;
            $reason =~ s/ \z//;
            $text .= "**" . ucfirst($scenario->{title}) . "**"
                . ($scenario->{only} ? " ($scenario->{only} only)" : '') . ": $reason\n\n";
            next if $scenario->{only} || $scenario->{spans}{nginx} eq $scenario->{spans}{httpd};
            $text .= join '', map { "```\n$_:\n" . ($scenario->{spans}{$_} =~ s/^/  /gmr) . "```\n\n" } @SERVERS;
        }
    }
    $text =~ s/\n\n\z/\n/;
    return $text;
}

1;
