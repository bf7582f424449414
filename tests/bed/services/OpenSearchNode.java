import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;
import org.opensearch.transport.Netty4Plugin;

/** One node of OpenSearch from its jars: `OpenSearchNode HOME [PLUGIN...] KEY=VALUE...`, until it is told to end. */
public class OpenSearchNode extends Node {
    OpenSearchNode(Settings settings, Path configuration, List<Class<? extends Plugin>> plugins) {
        super(
            InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), configuration, () -> "node"),
            plugins,
            false);
    }

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        List<Class<? extends Plugin>> plugins = new ArrayList<>(List.of(Netty4Plugin.class));
        Settings.Builder settings = Settings.builder().put("path.home", home);
        for (int at = 1; at < arguments.length; at++) {
            String[] pair = arguments[at].split("=", 2);
            if (pair.length == 1) {
                plugins.add(Class.forName(pair[0]).asSubclass(Plugin.class));
            } else {
                settings.put(pair[0], pair[1]);
            }
        }
        OpenSearchNode node = new OpenSearchNode(settings.build(), home.resolve("config"), plugins);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception error) {
                error.printStackTrace();
            }
        }));
        node.start();
        Thread.currentThread().join();
    }
}
