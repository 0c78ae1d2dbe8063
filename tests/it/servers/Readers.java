import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;

/**
 * Tomcat, as the tests of tests/it/servers start it: FOLDER HOST PORT PORT. The first port is as Tomcat is by default, the
 * second takes what can be allowed.
 *
 * <p>It answers with lines {@code read NAME VALUE}: the route that it took, {@code endpoint} or {@code other}, and the paths
 * that an application can ask it for. At /fields it answers with the fields.
 */
public class Readers {
    public static void main(String[] arguments) throws Exception {
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(arguments[0]);
        Connector byDefault = connector(arguments[1], arguments[2]);
        tomcat.setConnector(byDefault);
        Connector lenient = connector(arguments[1], arguments[3]);
        lenient.setEncodedSolidusHandling("decode");
        lenient.setAllowBackslash(true);
        lenient.setProperty("relaxedPathChars", "<>[\\]^`{|}\"");
        lenient.setProperty("rejectIllegalHeader", "false");
        tomcat.getService().addConnector(lenient);
        Context context = tomcat.addContext("", arguments[0]);
        add(context, "endpoint", new Reader("endpoint"), "/ds-api/user-token/*");
        add(context, "other", new Reader("other"), "/");
        add(context, "fields", new Fields(), "/fields");
        tomcat.start();
        tomcat.getServer().await();
    }

    private static Connector connector(String host, String port) {
        Connector connector = new Connector();
        connector.setProperty("address", host);
        connector.setPort(Integer.parseInt(port));
        connector.setProperty("maxKeepAliveRequests", "-1");
        return connector;
    }

    private static void add(Context context, String name, HttpServlet servlet, String pattern) {
        Tomcat.addServlet(context, name, servlet);
        context.addServletMappingDecoded(pattern, name);
    }

    private static final class Reader extends HttpServlet {
        private final String route;

        Reader(String route) {
            this.route = route;
        }

        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            StringBuilder lines = new StringBuilder("read route " + route + "\n");
            String info = request.getPathInfo();
            lines.append("read servlet ").append(request.getServletPath()).append(info == null ? "" : info);
            String target = request.getRequestURI();
            lines.append("\nread request_uri ").append(target).append('\n');
            try {
                URI uri = new URI(target);
                lines.append("read uri ").append(uri.getPath()).append('\n');
                lines.append("read uri_normalized ").append(uri.normalize().getPath()).append('\n');
            } catch (URISyntaxException refused) {
                lines.append("refused by java.net.URI\n");
            }
            try {
                String decoded = URLDecoder.decode(target, StandardCharsets.UTF_8);
                lines.append("read url_decoder ").append(decoded).append('\n');
            } catch (IllegalArgumentException refused) {
                lines.append("refused by java.net.URLDecoder\n");
            }
            write(response, lines);
        }
    }

    private static final class Fields extends HttpServlet {
        @Override
        protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            StringBuilder lines = new StringBuilder();
            for (String name : Collections.list(request.getHeaderNames())) {
                for (String value : Collections.list(request.getHeaders(name))) {
                    lines.append(name).append(": ").append(value).append('\n');
                }
            }
            write(response, lines);
        }
    }

    private static void write(HttpServletResponse response, StringBuilder lines) throws IOException {
        response.setContentType("text/plain; charset=utf-8");
        response.getOutputStream().write(lines.toString().getBytes(StandardCharsets.UTF_8));
    }
}
